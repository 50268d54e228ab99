"""Into a machine by QEMU's own agent, ``qemu-ga``, which many images have.

It knows no streams: a command gets its whole input at its start, and gives its output at its end.
Source of the protocol: QEMU's ``qga/qapi-schema.json``.
"""

from __future__ import annotations

import json
import math
import secrets
from typing import TYPE_CHECKING, Any

from core_infra.errors import CommandFailedError, InvalidError, TimeoutExpiredError
from core_infra.process.real import time
from core_infra.vm.access.access import NoAccessError
from core_infra.vm.access.qga_command import QgaCommand
from core_infra.vm.attach import connect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
        self._is_late = False
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

    def start(self, argv: Sequence[str], *, timeout: float | None = None) -> QgaCommand:
        """Prepare a command; it starts when its input has ended."""
        return QgaCommand(self, argv, timeout=timeout)

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def ask(self, command: str, *, deadline: float = math.inf, **arguments: Any) -> Any:
        """What the agent answers.

        Args:
            command: what it is asked for.
            deadline: when it must have answered, on ``time.monotonic``; after a minute anyhow.
            arguments: those of the command, with underscores for dashes.

        Raises:
            CommandFailedError: it refuses.
            TimeoutExpiredError: it does not answer.
            NoAccessError: the machine has ended.
        """
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        deadline = min(deadline, time.monotonic() + _ANSWER)
        if self._is_late:  # an answer that nobody waited for may still come
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
