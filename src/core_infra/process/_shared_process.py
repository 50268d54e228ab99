"""One program for several processes, such as pytest-xdist's workers: started once, ended once.

The first that joins starts a host (:mod:`core_infra.process._shared_process_host`), which starts
the program and outlives any of them. Each participant holds a connection with the host, which the
kernel closes however the participant ends. When the last one is closed, and the run that they
belong to is over (the end of file of a FIFO), the host ends the program and itself.
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
OVER = b"over\n"
"""Says goodbye for the whole run."""
_FAREWELL = 30.0
"""Seconds beyond its grace period that the end of the program is waited for."""
_TAIL = 64 * 1024
_LINES = 20
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Start:
    """How a shared program is started, and what others must know of it.

    Attributes:
        options: the program.
        ready: it is ready when all of these are. Named groups of a LogPattern become facts.
        facts: what JSON can hold, such as a port.
        timeout: seconds until it must be ready.
    """

    options: RunOptions
    ready: Sequence[Probe] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 30.0


class SharedProcess:
    """A program that several processes use; made by :func:`join`.

    Attributes:
        name: what it is known by.
        directory: its files; ``output.log`` is what it has written.
        pid: its process id.
        facts: what its starter said of it, and the named groups of its LogPatterns.
    """

    def __init__(self, name: str, directory: Path, connection: socket.socket) -> None:
        self.name = name
        self.directory = directory
        self.facts: dict[str, Any] = {}
        self.pid = 0
        self._connection = connection
        self._received = b""
        self._ended = ""
        self._grace = 0.0

    def __getitem__(self, fact: str) -> Any:
        """One of the facts; KeyError if there is none of this name."""
        return self.facts[fact]

    def output(self) -> str:
        """The last 64 KiB that it has written, on both streams; the whole is in ``output.log``."""
        try:
            with (self.directory / LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def ended(self) -> str:
        """How it has ended though it is still in use; empty while it runs."""
        while not self._ended and select.select([self._connection], [], [], 0)[0]:
            news = self._next()
            if news is None:
                self._ended = "its host was killed, and so was it"
            elif "ended" in news:
                self._ended = news["ended"]
        return self._ended

    def check(self) -> None:
        """Raise UnavailableError if it has ended, with its last lines."""
        if how := self.ended():
            raise UnavailableError(
                f"the shared process {self.name!r} has ended: {how}",
                why=f"its last lines:\n{self.tail()}",
                todo=f"All that it has written is in {self.directory / LOG}",
            )

    def tail(self) -> str:
        """The last lines that it has written."""
        return "\n".join(self.output().splitlines()[-_LINES:]) or "it has written nothing"

    def leave(self) -> None:
        """Use it no more; if that ends it, returns when it has ended."""
        self.say(BYE)
        self.await_dismissal()

    def say(self, farewell: bytes) -> None:
        """Send the host BYE or OVER; :meth:`await_dismissal` must follow."""
        with contextlib.suppress(OSError):  # it has gone
            self._connection.sendall(farewell)

    def await_dismissal(self) -> None:
        """Wait until the host lets go of the connection, and close it."""
        with self._connection as connection, contextlib.suppress(OSError):
            news: dict[str, Any] | None = {}
            while news is not None:
                self._grace = news.get("grace", self._grace)
                connection.settimeout(self._grace + _FAREWELL)
                news = self._next()

    def await_ready(self) -> None:
        """Wait until it is ready; for :func:`join`."""
        news = self._next()
        if news is None:
            said = (self.directory / HOST_LOG).read_text(errors="replace").strip()
            raise UnavailableError(
                f"the host of the shared process {self.name!r} has ended",
                why=said or "it was killed",
            )
        if "failed" in news:
            raise UnavailableError(
                f"cannot start the shared process {self.name!r}", why=news["failed"]
            )
        self.facts, self.pid, self._grace = news["facts"], news["pid"], news["grace"]

    def _next(self) -> dict[str, Any] | None:
        """The next of what the host says, waited for; None if it has gone."""
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
        directory: known to all who share: what tells their programs from those of others.
        name: of the program: letters, digits, dots and dashes.
        start: how to start it; or a function that only the starter calls, with a directory for the
            program's files.
        ready: probes, besides those of a :class:`Start`.
        until: a FIFO. While another process has its writing end, the program runs on, even if
            nobody uses it at the moment; :func:`end_all` ends it in order.

    Raises:
        InvalidError: the name or the start is not possible.
        UnavailableError: it does not start, or does not become ready.
    """
    if not re.fullmatch(r"[\w][\w.-]*", name):
        raise InvalidError(
            f"cannot share a process as {name!r}", why="a name has letters, digits, dots, dashes"
        )
    directory.mkdir(parents=True, exist_ok=True)
    home = directory / name
    with FileLock(lock_path(home)):
        connection = _connect(home)
        if connection is None:
            connection = _begin(service, home, start, ready, until)
    shared = SharedProcess(name, home, connection)
    try:
        shared.await_ready()
    except BaseException:
        shared.leave()
        raise
    return shared


def end_all(directory: Path) -> None:
    """The run is over: end the programs in *directory* that nobody uses; returns when they ended.

    Those that somebody still uses end when the last one leaves.
    """
    leaving = []
    for listener in sorted(directory.glob(f"*/{SOCKET}")):
        home = listener.parent
        with FileLock(lock_path(home)):
            connection = _connect(home)
        if connection is not None:
            leaving.append(SharedProcess(home.name, home, connection))
    for shared in leaving:  # so that they end at the same time
        shared.say(OVER)
    for shared in leaving:
        shared.await_dismissal()


def lock_path(home: Path) -> Path:
    """What is locked while a host comes or goes."""
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
    try:
        json.dumps(dict(start.facts))
        return pickle.dumps(Start(start.options, probes, dict(start.facts), start.timeout))
    except Exception as error:
        raise InvalidError(
            what,
            why=f"its options, probes and facts go to another process: {error}",
            todo="Use probes such as TcpPort, LogPattern or CommandSucceeds, and facts of text and "
            "numbers.",
        ) from error
