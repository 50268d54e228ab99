"""The way into a machine by QEMU's own agent, ``qemu-ga``, which many images have.

It does not have streams: a command gets its whole input at its start, and its output comes at its
end. Source of the protocol: QEMU's ``qga/qapi-schema.json``.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import math
import secrets
import shlex
from typing import TYPE_CHECKING, Any, Self

from core_infra._unpatched import time
from core_infra.errors import CommandFailedError, InvalidError, TimeoutExpiredError
from core_infra.vm._access import guard
from core_infra.vm._access.interface import NoAccessError
from core_infra.vm._attach import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


_SENTINEL = b"\xff"
_ANSWER = 60.0
_INTERVAL = 0.1
_RENEWAL = 5.0
_DIE = 3.0
"""Seconds for the guest to end a command; a guest that hangs never does."""


class QgaAccess:
    """A session with QEMU's agent.

    Args:
        socket: the socket of its port.
        timeout: seconds until it must answer.

    Raises:
        NoAccessError: it did not answer; perhaps it is not installed in the image.
    """

    def __init__(self, socket: Path, *, timeout: float) -> None:
        self._socket = connect(socket)
        self._buffer = b""
        self._is_late = False
        try:
            self._synchronise(time.monotonic() + timeout)
        except TimeoutExpiredError as error:
            self._socket.close()
            raise NoAccessError(
                f"QEMU's agent does not answer within {timeout:g} s",
                why="the image does not have qemu-ga, or it is not running yet",
            ) from error
        except BaseException:
            self._socket.close()
            raise

    def start(self, argv: Sequence[str], *, timeout: float | None = None) -> QgaCommand:
        """Create a command; it starts when its input is closed."""
        return QgaCommand(self, argv, timeout=timeout)

    def close(self) -> None:
        """Close the session."""
        self._socket.close()

    def ask(self, command: str, *, deadline: float = math.inf, **arguments: Any) -> Any:
        """Run a command of the agent's protocol and return its result.

        Args:
            command: the command's name.
            deadline: the time of ``time.monotonic`` until which it must answer; at most a minute.
            arguments: the command's arguments, with underscores for dashes.

        Raises:
            CommandFailedError: the agent reports an error.
            TimeoutExpiredError: it does not answer.
            NoAccessError: the machine has ended.
        """
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        deadline = min(deadline, time.monotonic() + _ANSWER)
        if self._is_late:  # the answer to an earlier command may still come
            self._synchronise(deadline)
        self._is_late = True
        self._send({"execute": command, "arguments": arguments})
        answer = self._receive(b"\n", deadline)
        self._is_late = False
        if "error" in answer:
            raise CommandFailedError(
                f"QEMU's agent refuses {command}",
                why=str(answer["error"].get("desc")),
                command=[command],
                exit_code=1,
                stdout=b"",
                stderr=b"",
            )
        return answer["return"]

    def _synchronise(self, deadline: float) -> None:
        # An interrupted session may have left half a request, and unread answers. The sentinel
        # resets the agent's parser, and precedes its answer, which repeats our number.
        number = secrets.randbelow(1 << 31)
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self._send(request, before=_SENTINEL)
        while True:
            self._read_until(_SENTINEL, deadline)
            if self._receive(b"\n", deadline).get("return") == number:
                return

    def _send(self, message: dict[str, Any], before: bytes = b"") -> None:
        self._socket.settimeout(_ANSWER)
        try:
            self._socket.sendall(before + json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise NoAccessError("QEMU's agent cannot be asked", why=str(error)) from error

    def _receive(self, end: bytes, deadline: float) -> dict[str, Any]:
        line = self._read_until(end, deadline)
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise InvalidError(f"QEMU's agent answered {line[:80]!r}") from error
        return answer if isinstance(answer, dict) else {}

    def _read_until(self, end: bytes, deadline: float) -> bytes:
        while end not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutExpiredError("QEMU's agent did not answer", timeout=_ANSWER)
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError as error:
                raise NoAccessError("QEMU's agent has gone", why=str(error)) from error
            if not data:
                raise NoAccessError("QEMU's agent has gone", why="the machine has ended")
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(end)
        return found


class QgaCommand:
    """A command by QEMU's agent.

    The agent does not notice that a command's client has gone. So a guard runs beside the command,
    and ends it if the file of its lease is not renewed any more.

    Args:
        access: the session.
        argv: the command.
        timeout: seconds until it is killed; None is no limit.

    Attributes:
        exit_code: minus the signal's number if a signal ended it; None until it is known.
    """

    def __init__(
        self, access: QgaAccess, argv: Sequence[str], *, timeout: float | None = None
    ) -> None:
        self.exit_code: int | None = None
        self._access = access
        self._argv = list(argv)
        self._timeout = timeout
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._input: list[bytes] = []
        self._pid: int | None = None
        self._status: dict[str, Any] = {}
        self._lease = f"/tmp/.core-infra-{secrets.token_hex(8)}"  # noqa: S108 - a random name
        self._renewed = 0.0

    def send_input(self, data: str | bytes) -> None:
        """Add to its standard input."""
        self._input.append(data.encode() if isinstance(data, str) else data)

    def close_stdin(self) -> None:
        """Start it, with all of its input.

        Raises:
            CommandFailedError: the program does not exist.
        """
        if self._pid is not None:
            return
        lookup = self._run(['command -v -- "$1"', self._argv[0]], self._deadline)
        if lookup["exitcode"] != 0:
            raise CommandFailedError(
                "QEMU's agent refuses guest-exec",
                why=f"the machine has no program {self._argv[0]}",
                command=self._argv,
                exit_code=lookup["exitcode"],
                stdout=b"",
                stderr=b"",
            )
        data = b"".join(self._input)
        self._pid = self._exec([guard.IN_SESSION, *self._argv], self._deadline, data)
        self._renew(self._deadline)
        self._exec([guard.LEASE, str(self._pid), self._lease], self._deadline)

    def is_running(self) -> bool:
        """Whether its end is not known yet."""
        return self.exit_code is None

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Its output, after it has ended.

        Raises:
            InvalidError: there was more than the agent keeps (16 MiB).
        """
        status = self._await(math.inf)
        for stream in ("out", "err"):
            if data := status.get(f"{stream}-data"):
                yield f"std{stream}", base64.b64decode(data)
            if status.get(f"{stream}-truncated"):
                raise InvalidError(
                    f"the output of {shlex.join(self._argv)!r} is truncated",
                    why="QEMU's agent keeps at most 16 MiB",
                    todo="Write it to a file in the machine and copy that, or use SSH.",
                )

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code."""
        self._await(math.inf if timeout is None else timeout)
        assert self.exit_code is not None  # noqa: S101 - set by _await
        return self.exit_code

    def kill(self) -> None:
        """End it, with all processes that it has started; waits a few seconds at most."""
        if self._pid is None or self.exit_code is not None:
            return
        script = f'{guard.TREE}end "$1"; rm -f "$2"'
        with contextlib.suppress(TimeoutExpiredError):
            self._run([script, str(self._pid), self._lease], time.monotonic() + _DIE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _await(self, timeout: float) -> dict[str, Any]:
        if self._status:  # the agent reports it only once
            return self._status
        given_up = time.monotonic() + timeout
        try:
            self.close_stdin()
            assert self._pid is not None  # noqa: S101 - set by close_stdin
            status = self._ended(self._pid, min(given_up, self._deadline))
        except TimeoutExpiredError:
            if time.monotonic() < self._deadline:
                raise
            self.kill()
            raise TimeoutExpiredError(
                f"{shlex.join(self._argv)!r} did not end within {self._timeout} s",
                why="it was killed",
                timeout=self._timeout,
            ) from None
        signal = status.get("signal")
        self.exit_code = -signal if signal else status.get("exitcode", 0)
        self._status = status
        self._run(['rm -f "$1"', self._lease], time.monotonic() + _DIE)  # which ends the guard
        return status

    def _ended(self, pid: int, deadline: float) -> dict[str, Any]:
        """The agent's status of a program that has ended."""
        for attempt in itertools.count():
            status: dict[str, Any] = self._access.ask(
                "guest-exec-status", deadline=deadline, pid=pid
            )
            if status["exited"]:
                return status
            if time.monotonic() > deadline:
                break
            if time.monotonic() > self._renewed + _RENEWAL:
                self._renew(deadline)
            time.sleep(min(_INTERVAL, 0.005 * 2**attempt))
        raise TimeoutExpiredError(f"{shlex.join(self._argv)!r} still runs", timeout=None)

    def _renew(self, deadline: float) -> None:
        self._renewed = time.monotonic()
        self._run(['echo "$2" >"$1"', self._lease, secrets.token_hex(4)], deadline)

    def _run(self, script: list[str], deadline: float) -> dict[str, Any]:
        return self._ended(self._exec(script, deadline), deadline)

    def _exec(self, script: list[str], deadline: float, data: bytes = b"") -> int:
        """Start a script in the guest's shell and return its process id."""
        line, *arguments = script
        answer = self._access.ask(
            "guest-exec",
            deadline=deadline,
            path="/bin/sh",
            arg=["-c", line, "sh", *arguments],
            input_data=base64.b64encode(data).decode(),
            capture_output=True,
        )
        pid: int = answer["pid"]
        return pid
