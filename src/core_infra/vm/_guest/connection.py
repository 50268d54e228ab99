"""The connection with a guest agent: one session after another, whose frames go to channels."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, TypeVar

from core_infra._eventloop.sockets import SocketLink
from core_infra._eventloop.supervisor import supervisor
from core_infra._unpatched import os, time
from core_infra.errors import CoreInfraError, TimeoutExpiredError, UnavailableError
from core_infra.vm._guest.channel import Channel
from core_infra.vm._guest.protocol import (
    Frame,
    FrameDecoder,
    FrameType,
    HelloAck,
    ProtocolError,
    encode_hello,
)
from core_infra.vm._guest.results import raise_failure

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator


T = TypeVar("T")

_ENTROPY_BYTES = 64
_GLANCE = 1.0
"""Seconds between two checks of a guest that boots."""
_GREETS_AGAIN = 0.1
"""Seconds until a greeting without an answer is repeated; then twice as long each time."""
_AT_LEAST = 2.0  # seconds that a request to a paused machine waits: there may be room again


class GuestGoneError(UnavailableError):
    """The machine, or its agent, ended during a call."""


class AgentGoneError(GuestGoneError):
    """The machine runs, but its agent has ended: the guest reboots, or the agent was killed."""


class AgentConnection:
    """The connection with a guest agent.

    Args:
        sock: connected to the agent, perhaps long before the guest runs.
        on_lost: called on the supervisor's thread when the connection closes, to :meth:`fail` the
            client with a reason, then or soon; default: it fails as closed.
        on_work: called when the guest gets something to do; must not wait.
        on_idle: called when it has done all of it; must not wait.

    Attributes:
        nonce: that of the last session, in hex; the agent returns it as ``former`` in the next one.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_lost: Callable[[], None] | None = None,
        on_work: Callable[[], None] = lambda: None,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_work = on_work
        self._on_idle = on_idle
        self._waiting = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._channels: dict[int, Channel] = {}
        self._error: CoreInfraError | None = None
        self._decoder = FrameDecoder()
        self._hello: Future[HelloAck] = Future()
        self._greeted_ns = 0
        self.nonce = ""
        self._pong: Future[None] = Future()
        self._lost = False
        self._pause_error: CoreInfraError | None = None
        self._pause_ends = 0.0
        self._link = SocketLink(sock, on_data=self._receive, on_close=on_lost or self._closed)

    def greet(self, timeout: float, hopeless: Callable[[], object] = lambda: False) -> HelloAck:
        """Begin a session: the agent resets, and reseeds the guest's kernel.

        The call may come before the guest runs: QEMU holds the bytes until the agent reads. It
        drops those that come in the moment when an agent ends, so the greeting is repeated.

        Args:
            timeout: seconds until it must have answered.
            hopeless: called now and then; if it returns true, the wait ends.

        Raises:
            TimeoutExpiredError: the agent did not answer within *timeout* seconds.
            GuestGoneError: the machine ended first.
        """
        self._on_work()
        again = time.monotonic()
        deadline, patience = again + timeout, _GREETS_AGAIN
        while True:
            now = time.monotonic()
            if now >= again:
                self._send(self._greeting(0))
                again, patience = now + patience, 2 * patience
            try:
                return self._greeted(max(0.0, min(deadline, now + _GLANCE, again) - now))
            except TimeoutExpiredError:
                if time.monotonic() >= deadline or hopeless():
                    raise TimeoutExpiredError(
                        f"the guest agent did not answer within {timeout:.1f} s", timeout=timeout
                    ) from None

    def ping(self, timeout: float) -> None:
        """Return once the agent has answered; TimeoutExpiredError after *timeout* seconds."""
        self._pong = Future()
        self._send(Frame(FrameType.PING, 0))
        _result(self._pong, timeout, "the guest agent did not answer a ping")

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Within it, the guest has something to do, such as to become ready."""
        with self._lock:
            if not self._works:
                self._on_work()
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._works:
                    self._on_idle()

    @property
    def _works(self) -> bool:
        return bool(self._channels or self._waiting)

    @property
    def lost(self) -> bool:
        """Whether the session was lost, so that the next one must begin with :meth:`hello`."""
        return self._lost

    def lose_session(self, error: CoreInfraError) -> None:
        """The agent has ended, though not the machine: calls under way raise *error*."""
        with self._lock:
            self._lost = True
            channels = list(self._channels.values())
            self._channels.clear()
        for channel in channels:
            channel.fail(error)

    def fail(self, error: CoreInfraError) -> None:
        """The machine has ended: calls under way, and all later ones, raise *error*."""
        with self._lock:
            self._error = self._error or error
            for future in (self._hello, self._pong):
                if not future.done():
                    future.set_exception(self._error)
        self.lose_session(self._error)

    def pause(self, error: CoreInfraError | None, until: float) -> None:
        """The machine is paused: from *until* on, calls raise *error*; None: it runs again."""
        with self._lock:
            self._pause_error, self._pause_ends = error, until
            channels = list(self._channels.values())
        for channel in channels:
            channel.pause(error, until)

    def fail_paused(self) -> None:
        """The machine is still paused: calls that wait for its agent raise that error, too."""
        if self._pause_error is None:
            return
        for future in (self._hello, self._pong):
            if not future.done():
                future.set_exception(self._pause_error)
        with self._lock:
            channels = list(self._channels.values())
        for channel in channels:
            channel.notify()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _greeting(self, clock_ns: int) -> Frame:
        nonce = os.urandom(16)
        self.nonce = nonce.hex()

        def seek() -> None:
            self._decoder.seek_hello(nonce)  # from here on, nobody answers a former greeting
            with self._lock:
                self._hello = Future()
                if self._error is not None:
                    self._hello.set_exception(copy.copy(self._error))

        supervisor().call(seek)  # on the thread that feeds the decoder
        payload = encode_hello(nonce, clock_ns=clock_ns, entropy=os.urandom(_ENTROPY_BYTES))
        return Frame(FrameType.HELLO, 0, payload)

    def _greeted(self, timeout: float) -> HelloAck:
        ack = _result(self._hello, timeout, "the guest agent did not answer")
        self._lost = False
        for key, what in (("entropy_error", "random generator"), ("clock_error", "clock")):
            if key in ack.info:
                raise UnavailableError(f"the guest's {what} could not be set", why=ack.info[key])
        return ack

    def _request(self, kind: FrameType, payload: bytes, timeout: float) -> None:
        channel = self._open(kind, payload)
        raise_failure(channel.result(time.monotonic() + timeout), kind.name.lower())

    def _open(self, kind: FrameType, payload: bytes, *, no_input: bool = False) -> Channel:
        channel = Channel(next(self._numbers), self._send, input_ended=no_input)
        # A request that is too large must not leave a channel behind.
        data = Frame(kind, channel.number, payload).encode()
        if no_input:  # both at once: the guest is interrupted once
            data += Frame(FrameType.EOF, channel.number).encode()
        with self._lock:
            if self._error is not None:
                raise copy.copy(self._error)
            if not self._works:
                self._on_work()
            self._channels[channel.number] = channel
            if self._pause_error is not None:
                channel.pause(
                    self._pause_error, max(self._pause_ends, time.monotonic() + _AT_LEAST)
                )
                supervisor().after(_AT_LEAST, channel.notify)
        self._link.send(data)
        return channel

    def _send(self, frame: Frame) -> None:
        self._link.send(frame.encode())

    def _receive(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._dispatch(frame)
        except ProtocolError as error:
            # Both sides start over with the next HELLO, whatever state they are in.
            self.lose_session(error)

    def _dispatch(self, frame: Frame) -> None:
        if frame.type == FrameType.HELLO_ACK:
            if self._hello.done():
                raise ProtocolError("the guest agent began a session without a request")
            self._greeted_ns = time.time_ns()
            self._hello.set_result(HelloAck.decode(frame.payload))
        elif frame.type == FrameType.PONG:
            if not self._pong.done():
                self._pong.set_result(None)
        elif frame.type == FrameType.PROTOCOL_ERROR:
            raise ProtocolError(
                "the guest agent did not understand us",
                why=frame.payload.decode("utf-8", "replace"),
            )
        else:
            channel = self._channels.get(frame.channel)
            if channel is not None and channel.receive(frame):
                with self._lock:
                    self._channels.pop(frame.channel, None)
                    if not self._works:
                        self._on_idle()

    def _closed(self) -> None:
        self.fail(GuestGoneError("the connection to the guest agent has closed"))


def _result(future: Future[T], timeout: float, what: str) -> T:
    try:
        return future.result(timeout)
    except FutureTimeoutError:
        raise TimeoutExpiredError(f"{what} within {timeout:.1f} s", timeout=timeout) from None
