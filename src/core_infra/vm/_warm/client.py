"""The run's side of the warm helper: starts it, leases clones, and leaves templates with it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock

from core_infra._eventloop.sockets import short_path
from core_infra._unpatched import signal, socket
from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.process._child import Child
from core_infra.vm._run_directory import HELPERS, base_directory
from core_infra.vm._warm import protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from core_infra.vm._hypervisors.fork_server import ForkServer

_ANSWER_TIMEOUT = 30.0


class WarmHelper:
    """The connection of this process with the warm helper, which lives on for some minutes.

    Args:
        minutes: how long, after the last run that has used it.
    """

    def __init__(self, minutes: float) -> None:
        self._minutes = minutes
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def lease(
        self, key: str, ends: Mapping[str, int], log: int, server: ForkServer
    ) -> tuple[int, str, dict[str, int]] | None:
        """A clone of the template *key*; None if there is no such template.

        Args:
            key: what the template was made from.
            ends: the clone's ends of its connections, by name.
            log: the file of its output.
            server: that of the clone.

        Returns:
            Its pid; the nonce of its agent's last session; its descriptors, by name.

        Raises:
            UnavailableError: the helper cannot do it.
        """
        fds = [*ends.values(), log, *server.fds()]
        answer = self._ask({"request": "lease", "key": key, "names": list(ends)}, fds)
        if answer["pid"] is None:
            return None
        try:
            server.adopt(answer["pid"], _ANSWER_TIMEOUT)
        except CoreInfraError:
            self._ask({"request": "discard", "key": key}, ())
            raise
        return answer["pid"], answer["nonce"], answer["numbers"]

    def spawn(self, argv: Sequence[str], numbers: Sequence[int], output: IO[bytes]) -> Child:
        """Start a process that is the helper's child.

        It ends when this process does, unless :meth:`deposit` is called.

        Args:
            argv: the command.
            numbers: descriptors that it inherits, with the same numbers.
            output: the file for its stdout and stderr.
        """
        request = {"request": "begin", "argv": list(argv), "numbers": list(numbers)}
        answer = self._ask(request, [*numbers, output.fileno()])
        # How it ends is not known here, and only matters if it was killed.
        return Child(argv, answer["pid"], lambda: -signal.SIGKILL, adopted=True)

    def deposit(
        self,
        key: str,
        nonce: str,
        numbers: Mapping[str, int],
        what: str,
        fds: Sequence[int],
    ) -> None:
        """Leave a stopped process that :meth:`spawn` has started with the helper, as a template.

        Args:
            key: what it was made from.
            nonce: that of its agent's last session.
            numbers: its descriptors, by name.
            what: what it is, for users.
            fds: our ends of its fork server's control socket and of its connections.
        """
        request = {
            "request": "deposit",
            "key": key,
            "nonce": nonce,
            "numbers": dict(numbers),
            "what": what,
        }
        self._ask(request, fds)

    def close(self) -> None:
        """Let the helper know that this run does not need it any more."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _ask(self, packet: dict[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        with self._lock:
            if self._connection is None:
                self._connection = _connected(self._minutes)
            try:
                answer = _exchange(self._connection, packet, fds)
            except BaseException:
                self._connection.close()  # a late answer would be taken for that of the next one
                self._connection = None
                raise
        if "error" in answer:
            raise UnavailableError("the warm helper has failed", why=answer["error"])
        return answer


def templates() -> list[dict[str, Any]]:
    """All templates of this user that are warm."""
    found = []
    for connection in _helpers():
        with connection, contextlib.suppress(UnavailableError, OSError):
            found += _exchange(connection, {"request": "list"}, ())["templates"]
    return found


def cool() -> int:
    """End all helpers of this user, with their templates; returns how many of these there were."""
    ended = 0
    for connection in _helpers():
        with connection, contextlib.suppress(UnavailableError, OSError):
            ended += _exchange(connection, {"request": "cool"}, ())["ended"]
            connection.recv(1)  # it has ended
    return ended


def _helpers() -> list[socket.socket]:
    found = [protocol.connect(path) for path in sorted(base_directory().glob(HELPERS))]
    return [connection for connection in found if connection is not None]


def _exchange(
    connection: socket.socket, packet: dict[str, Any], fds: Sequence[int]
) -> dict[str, Any]:
    connection.settimeout(_ANSWER_TIMEOUT)
    try:
        protocol.send(connection, packet, fds)
        answer, others = protocol.receive(connection)
    except OSError as error:
        raise UnavailableError("the warm helper does not answer", why=str(error)) from error
    protocol.close_all(others)
    return answer


def _connected(minutes: float) -> socket.socket:
    """A connection with the helper, started if it does not run."""
    path = protocol.meeting_point()
    connection = protocol.connect(path)
    if connection is None:
        with FileLock(path.parent / ".lock"):
            connection = protocol.connect(path)  # another run has just started it
            if connection is None:
                _start(path, minutes)
                connection = protocol.connect(path)
    if connection is None:
        raise UnavailableError("the warm helper cannot be started", why=f"nobody serves {path}")
    return connection


def _start(path: Path, minutes: float) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # that of a helper which was killed
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        with short_path(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.listen()
        number = listener.fileno()
        command = [sys.executable, "-P", "-m", "core_infra.vm._warm.helper"]
        # By a shell that ends at once: the helper is not a child of this process.
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *command, str(number), str(path), str(minutes * 60)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            pass_fds=[number],
            start_new_session=True,
            check=True,
        )
