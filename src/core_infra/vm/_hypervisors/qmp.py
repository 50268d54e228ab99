"""QEMU's machine protocol (QMP): JSON commands and events, one a line.

Written here rather than taken from ``qemu.qmp``: that one needs an asyncio event loop of its own
beside the supervisor, and its import alone takes longer than restoring a machine.
Source of the format: QEMU's ``docs/interop/qmp-spec.rst``.
"""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

from core_infra._eventloop.sockets import SocketLink
from core_infra.errors import CommandFailedError, TimeoutExpiredError, UnavailableError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence


class QmpError(CommandFailedError):
    """QEMU refused a command.

    Attributes:
        command: the QMP command.
        error_class: QEMU's class of the error.
    """


class Qmp:
    """A QMP connection.

    Args:
        sock: connected to QEMU's monitor, at any time before or after QEMU starts serving it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._listeners: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._replies: dict[int, Future[Any]] = {}
        self._partial = b""
        self._closed = False
        self._link = SocketLink(sock, on_data=self._receive, on_close=self._fail_all)
        # Capabilities may be negotiated before the greeting is read: QEMU reads in order.
        self._negotiated = self._send("qmp_capabilities", {})

    def execute(
        self, command: str, *, timeout: float = 10.0, fds: Sequence[int] = (), **arguments: Any
    ) -> Any:
        """Run a QMP command; returns its return value.

        Args:
            command: its name.
            timeout: seconds to wait for the answer.
            fds: descriptors that go with it, as ``getfd`` needs one.
            arguments: its arguments, with underscores for dashes.

        Raises:
            QmpError: QEMU refused it.
            TimeoutExpiredError: no answer within *timeout* seconds.
            UnavailableError: QEMU has gone.
        """
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        reply = self._send(command, arguments, fds)
        try:
            return reply.result(timeout)
        except FutureTimeoutError:
            raise TimeoutExpiredError(
                f"QEMU did not answer {command!r} within {timeout} s", timeout=timeout
            ) from None

    def on_event(self, name: str, listener: Callable[[dict[str, Any]], None]) -> None:
        """Call *listener* with the data of each event *name*, on the supervisor's thread."""
        self._listeners[name] = listener

    def post(self, command: str, **arguments: Any) -> None:
        """Send a command without waiting for its answer, as ``quit`` needs it."""
        self._send(command, arguments)

    def ask(self, command: str, answer: Callable[[Any], None]) -> None:
        """Send a command; *answer* is called with its return value on the supervisor's thread.

        It is not called if QEMU refuses the command, or has gone.
        """

        def done(reply: Future[Any]) -> None:
            if reply.exception() is None:
                answer(reply.result())

        self._send(command, {}).add_done_callback(done)

    def close(self) -> None:
        """Close the connection; commands under way fail with UnavailableError."""
        self._link.close()

    def _send(
        self, command: str, arguments: dict[str, Any], fds: Sequence[int] = ()
    ) -> Future[Any]:
        future: Future[Any] = Future()
        number = next(self._ids)
        with self._lock:
            if self._closed:
                future.set_exception(self._gone())
                return future
            self._replies[number] = future
        message = {"execute": command, "arguments": arguments, "id": number}
        self._link.send(json.dumps(message).encode() + b"\n", fds)
        return future

    def _receive(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "event" in message:
                listener = self._listeners.get(message["event"])
                if listener is not None:
                    listener(message.get("data", {}))
                continue
            with self._lock:
                future = self._replies.pop(message.get("id"), None)
            if future is None:
                continue  # the greeting
            if "error" in message:
                error = message["error"]
                future.set_exception(
                    QmpError(
                        f"QEMU refused command {message['id']}",
                        why=error.get("desc", ""),
                        error_class=error.get("class", ""),
                    )
                )
            else:
                future.set_result(message.get("return"))

    def _fail_all(self) -> None:
        with self._lock:
            self._closed = True
            replies, self._replies = self._replies, {}
        for future in replies.values():
            future.set_exception(self._gone())

    @staticmethod
    def _gone() -> UnavailableError:
        return UnavailableError("QEMU's monitor is closed", why="the machine has ended")
