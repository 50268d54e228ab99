"""Into a machine by QEMU's own agent, ``qemu-ga``, which many images have.

It knows no streams: a command gets its whole input at its start, and gives its output at its end.
Source of the protocol: QEMU's ``qga/qapi-schema.json``.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import secrets
import shlex
import time
from typing import TYPE_CHECKING, Any, Self

from core_infra.errors import CommandFailedError, InvalidError, TimeoutExpiredError
from core_infra.vm.access.access import NoAccessError
from core_infra.vm.attach import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_INTERVAL = 0.1
_SENTINEL = b"\xff"
_ANSWER = 60.0


class QgaAccess:
    """A session with QEMU's agent.

    Args:
        socket: its line's.
        timeout: seconds until it must have answered.

    Raises:
        NoAccessError: it did not; perhaps the image has none.
    """

    def __init__(self, socket: Path, *, timeout: float) -> None:
        self._socket = connect(socket)
        self._buffer = b""
        try:
            self._synchronise(time.monotonic() + timeout)
        except TimeoutExpiredError as error:
            self._socket.close()
            raise NoAccessError(
                f"QEMU's agent does not answer within {timeout:g} s",
                why="the image has no qemu-ga, or it does not run yet",
            ) from error
        except BaseException:
            self._socket.close()
            raise

    def start(self, argv: Sequence[str]) -> QgaCommand:
        """Prepare a command; it starts when its input has ended."""
        return QgaCommand(self, argv)

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the agent answers.

        Raises:
            CommandFailedError: it refuses.
            TimeoutExpiredError: it does not answer.
            NoAccessError: the machine has ended.
        """
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._send({"execute": command, "arguments": arguments})
        answer = self._receive(b"\n", time.monotonic() + _ANSWER)
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
        # Somebody's broken session may have left half a request, and answers: the sentinel makes
        # the agent begin anew, and stands before its answer, which repeats our number.
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

    Attributes:
        exit_code: minus the signal's number if one ended it; None until its end is read.
    """

    def __init__(self, access: QgaAccess, argv: Sequence[str]) -> None:
        self.exit_code: int | None = None
        self._access = access
        self._argv = list(argv)
        self._input: list[bytes] = []
        self._pid: int | None = None
        self._status: dict[str, Any] = {}

    def send_input(self, data: str | bytes) -> None:
        """Add to its standard input."""
        self._input.append(data.encode() if isinstance(data, str) else data)

    def close_stdin(self) -> None:
        """Start it, with all of its input."""
        if self._pid is not None:
            return
        program, *rest = self._argv
        answer = self._access.ask(
            "guest-exec",
            path=program,
            arg=rest,
            input_data=base64.b64encode(b"".join(self._input)).decode(),
            capture_output=True,
        )
        self._pid = answer["pid"]

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Its output, once it has ended.

        Raises:
            InvalidError: there was more of it than the agent keeps (16 MiB).
        """
        status = self._await(math.inf)
        for stream in ("out", "err"):
            if data := status.get(f"{stream}-data"):
                yield f"std{stream}", base64.b64decode(data)
            if status.get(f"{stream}-truncated"):
                raise InvalidError(
                    f"the output of {shlex.join(self._argv)!r} is cut off",
                    why="QEMU's agent keeps no more",
                    todo="Write it to a file in the machine and copy that, or use SSH.",
                )

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code."""
        self._await(math.inf if timeout is None else timeout)
        assert self.exit_code is not None  # noqa: S101 - set by _await
        return self.exit_code

    def kill(self) -> None:
        """End it, by the guest's shell: the program ``kill`` is not everywhere."""
        if self._pid is not None and self.exit_code is None:
            argv = ["-c", f"kill -KILL {self._pid}"]
            self._access.ask("guest-exec", path="/bin/sh", arg=argv, capture_output=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _await(self, timeout: float) -> dict[str, Any]:
        if self._status:  # the agent tells it once
            return self._status
        self.close_stdin()
        deadline = time.monotonic() + timeout
        for attempt in itertools.count():
            status: dict[str, Any] = self._access.ask("guest-exec-status", pid=self._pid)
            if status["exited"]:
                signal = status.get("signal")
                self.exit_code = -signal if signal else status.get("exitcode", 0)
                self._status = status
                return status
            if time.monotonic() > deadline:
                raise TimeoutExpiredError(
                    f"{shlex.join(self._argv)!r} still runs after {timeout} s", timeout=timeout
                )
            time.sleep(min(_INTERVAL, 0.005 * 2**attempt))
        raise AssertionError  # count() does not end
