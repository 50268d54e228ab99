"""Shared processes: a program that several processes use, such as a server for all test workers.

The first process that joins starts a host (:mod:`core_infra.process._shared_process_host`), which
starts the program and outlives its participants. Each participant has a connection to the host,
which the kernel closes however the participant ends. When the last one is closed, and the run that
they belong to is over (the end of file of a FIFO), the host stops the program and ends.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from core_infra._eventloop.sockets import short_path
from core_infra._unpatched import select, shutil, socket
from core_infra.errors import InvalidError, UnavailableError
from core_infra.process._options import RunOptions
from core_infra.process._readiness import check_probe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from core_infra.process._process import Probe
    from core_infra.process._service import Service

SOCKET = "host.sock"
START = "start.pickle"
LOG = "output.log"
HOST_LOG = "host.log"
BYE = b"bye\n"
"""Sent by a participant that leaves."""
OVER = b"over\n"
"""Sent at the end of the whole run."""
_END_TIMEOUT = 30.0
"""Seconds beyond its grace period that the end of the program is waited for."""
_REPORT_TIMEOUT = 10.0
"""Seconds until the host has reported the end of a program; it waits for its last output."""
_TAIL = 64 * 1024
_LINES = 20
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Start:
    """How a shared program is started, and facts about it for its participants.

    Attributes:
        options: the program, and how to run it.
        ready: it is ready when all of these succeed. Named groups of a LogPattern become facts.
        facts: values that JSON can hold, such as a port.
        timeout: seconds until it must be ready.
    """

    options: RunOptions
    ready: Sequence[Probe] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 30.0


class HostConnection:
    """A participant's connection to the host.

    Args:
        home: the directory of the program's files.
        connection: connected to the host; it is owned from now on.
    """

    def __init__(self, home: Path, connection: socket.socket) -> None:
        self._home = home
        self._connection = connection
        self._received = b""
        self._ended = ""
        self._grace = 0.0

    def await_ready(self) -> tuple[dict[str, Any], int]:
        """Wait until the program is ready; returns its facts and its pid.

        Raises:
            UnavailableError: it does not start, or does not become ready.
        """
        message = self._receive()
        if message is None:
            log = (self._home / HOST_LOG).read_text(errors="replace").strip()
            raise UnavailableError(
                f"the host of the shared process {self._home.name!r} has ended",
                why=log or "it was killed",
            )
        if "failed" in message:
            raise UnavailableError(
                f"cannot start the shared process {self._home.name!r}", why=message["failed"]
            )
        self._grace = message["grace"]
        return message["facts"], message["pid"]

    def ended(self, patience: float = 0) -> str:
        """How the program has ended although it is in use; empty while it runs.

        Args:
            patience: seconds to wait for the host's report.
        """
        while not self._ended and (
            b"\n" in self._received or select.select([self._connection], [], [], patience)[0]
        ):
            message = self._receive()
            if message is None:
                self._ended = "its host was killed, and so was it"
            elif "ended" in message:
                self._ended = message["ended"]
        return self._ended

    def send(self, farewell: bytes) -> None:
        """Send BYE or OVER; :meth:`await_close` must follow."""
        with contextlib.suppress(OSError):  # the host has ended
            self._connection.sendall(farewell)

    def await_close(self) -> None:
        """Wait until the host closes the connection, and close it."""
        with self._connection as connection, contextlib.suppress(OSError):
            message: dict[str, Any] | None = {}
            while message is not None:
                self._grace = message.get("grace", self._grace)
                connection.settimeout(self._grace + _END_TIMEOUT)
                message = self._receive()

    def _receive(self) -> dict[str, Any] | None:
        """Wait for the next message of the host; None if it has ended."""
        while b"\n" not in self._received:
            try:
                data = self._connection.recv(_CHUNK)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


class SharedProcess:
    """A program that several processes use.

    Attributes:
        name: its name.
        directory: its files; ``output.log`` is its output.
        pid: its process id.
        facts: the facts of its start, and the named groups of its LogPatterns.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        connection: HostConnection,
        facts: dict[str, Any],
        pid: int,
    ) -> None:
        self.name = name
        self.directory = directory
        self.facts = facts
        self.pid = pid
        self._connection = connection

    def __getitem__(self, fact: str) -> Any:
        """One of the facts.

        Raises:
            KeyError: there is none of this name.
            UnavailableError: the process has ended.
        """
        found = self.facts[fact]
        self.check()
        return found

    def output(self) -> str:
        """The last 64 KiB of its output, of both streams; all of it is in ``output.log``."""
        try:
            with (self.directory / LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def tail(self) -> str:
        """The last lines of its output."""
        return "\n".join(self.output().splitlines()[-_LINES:]) or "it has written nothing"

    def ended(self) -> str:
        """How it has ended although it is in use; empty while it runs."""
        # The host reports it a moment later.
        return self._connection.ended() or (
            "" if _is_running(self.pid) else self._connection.ended(_REPORT_TIMEOUT)
        )

    def check(self) -> None:
        """Raise UnavailableError with its last lines if it has ended."""
        if how := self.ended():
            raise UnavailableError(
                f"the shared process {self.name!r} has ended: {how}",
                why=f"its last lines:\n{self.tail()}",
                todo=f"All its output is in {self.directory / LOG}",
            )

    def leave(self) -> None:
        """Stop using it; if that ends it, returns when it has ended."""
        self._connection.send(BYE)
        self._connection.await_close()


def join(
    service: Service,
    directory: Path,
    name: str,
    start: RunOptions | Start | Callable[[Path], RunOptions | Start],
    ready: Probe | Sequence[Probe] = (),
    *,
    until: Path | None = None,
) -> SharedProcess:
    """Start a program, or use the one that another process has started; returns when it is ready.

    Args:
        service: starts the host, which outlives it.
        directory: the same for all that share their programs.
        name: of the program: letters, digits, dots and dashes.
        start: how to start it; or a function that is called only to start it, with a directory for
            the program's files.
        ready: probes, besides those of a :class:`Start`.
        until: a FIFO. While another process has its writing end open, the program keeps running,
            even without participants; :func:`end_all` stops it.

    Raises:
        InvalidError: the name or the start is not possible.
        UnavailableError: it does not start, does not become ready, or has ended.
    """
    given: Any = name
    if not isinstance(given, str) or not re.fullmatch(r"[\w][\w.-]*", given):
        raise InvalidError(
            f"cannot share a process as {name!r}", why="a name has letters, digits, dots, dashes"
        )
    directory.mkdir(parents=True, exist_ok=True)
    home = directory / name
    with FileLock(lock_path(home)):
        connection = _connect(home)
        if connection is None:
            connection = _begin(service, home, start, ready, until)
    host = HostConnection(home, connection)
    try:
        shared = SharedProcess(name, home, host, *host.await_ready())
        shared.check()
    except BaseException:
        host.send(BYE)
        host.await_close()
        raise
    return shared


def end_all(directory: Path) -> None:
    """At the end of the run, stop the programs in *directory*; returns when they have ended.

    A program that still has participants ends when the last one leaves.
    """
    hosts = []
    for listener in sorted(directory.glob(f"*/{SOCKET}")):
        home = listener.parent
        with FileLock(lock_path(home)):
            connection = _connect(home)
        if connection is not None:
            hosts.append(HostConnection(home, connection))
    for host in hosts:  # so that they end at the same time
        host.send(OVER)
    for host in hosts:
        host.await_close()


def _is_running(pid: int) -> bool:
    import psutil  # noqa: PLC0415 - imported only if it is used

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def lock_path(home: Path) -> Path:
    """The file that is locked while a host starts or ends."""
    return home.with_name(f"{home.name}.lock")


def _connect(home: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        with short_path(home / SOCKET) as address:
            connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def _begin(
    service: Service,
    home: Path,
    start: RunOptions | Start | Callable[[Path], RunOptions | Start],
    ready: Probe | Sequence[Probe],
    until: Path | None,
) -> socket.socket:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    (home / START).write_bytes(_pickled(home, start(home) if callable(start) else start, ready))
    with socket.socket(socket.AF_UNIX) as listener:
        with short_path(home / SOCKET) as address:
            listener.bind(address)
        listener.listen(128)
        connection = _connect(home)
        assert connection is not None  # noqa: S101 - it listens
        try:
            service.start_with_options(
                RunOptions(
                    sys.executable,
                    [
                        "-P",  # no module is taken from the working directory
                        "-m",
                        "core_infra.process._shared_process_host",
                        home,
                        str(listener.fileno()),
                        *([] if until is None else [until]),
                    ],
                    pass_fds=[listener.fileno()],
                    log=home / HOST_LOG,
                    detach=True,
                )
            )
        except BaseException:
            connection.close()
            raise
    return connection


def _pickled(home: Path, start: RunOptions | Start, ready: Probe | Sequence[Probe]) -> bytes:
    what = f"cannot share the process {home.name!r}"
    if isinstance(start, RunOptions):
        start = Start(start)
    if not isinstance(start, Start):
        raise InvalidError(what, why=f"start is {start!r}", todo="Give RunOptions or a Start.")
    start.options.check()
    probes = [*start.ready, *(ready if isinstance(ready, list | tuple) else [ready])]
    for probe in probes:
        check_probe(probe)
    try:
        json.dumps(dict(start.facts))
        return pickle.dumps(Start(start.options, probes, dict(start.facts), start.timeout))
    except Exception as error:
        raise InvalidError(
            what,
            why=f"its options, probes and facts must be sent to another process: {error}",
            todo="Use probes such as TcpPort, LogPattern or CommandSucceeds, and facts of text and "
            "numbers.",
        ) from error
