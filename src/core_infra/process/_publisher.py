"""Publishers of process events: on the bus, or nowhere."""

from __future__ import annotations

import logging
import queue
import threading
from itertools import repeat
from typing import TYPE_CHECKING

from core_infra._eventloop.latch import Latch
from core_infra._unpatched import os
from core_infra.errors import WrongStateError
from core_infra.process._errors import KILL_TIMEOUT
from core_infra.process._events import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    Stream,
)
from core_infra.process._output import LineSplitter
from core_infra.process._status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core_infra.framework._bus import Bus
    from core_infra.process._managed_process import ManagedProcess

MAX_UNPUBLISHED = 8 << 20
"""Bytes of output that may wait for slow handlers; above it, the programs that write them wait."""

_PIECE = 32 << 10  # the lines of one piece stay in the processor's cache
_log = logging.getLogger(__name__)


class NullPublisher:
    """The publisher of a service without a core: publishes nothing."""

    def starting(self, process: ManagedProcess) -> None:
        """Nothing to do."""

    def started(self, process: ManagedProcess, pid: int) -> None:
        """Nothing to do."""

    def wrote(self, process: ManagedProcess, stream: Stream, data: bytes) -> None:
        """Nothing to do."""

    def ended(self, process: ManagedProcess, error: Exception | None) -> None:  # noqa: ARG002
        """Mark it as done at once."""
        process.mark_done()

    def awaited(self, process: ManagedProcess) -> Latch:
        """The latch ``done``."""
        return process.done

    def close(self) -> None:
        """Nothing to do."""


class BusPublisher:
    """A thread that publishes events on the bus.

    On a thread of its own, so that handlers may do anything: also start programs, and wait for
    them. If they are slow, the writing programs wait, as they would for a full pipe.

    Args:
        bus: the bus.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._splitters: dict[tuple[str, Stream], LineSplitter] = {}
        self._unpublished = 0
        self._paused: dict[str, ManagedProcess] = {}
        self._unfinished: dict[str, ManagedProcess] = {}
        self._closing = False
        self._drained = Latch()
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="core-infra-events", daemon=True)
        self._thread.start()

    def starting(self, process: ManagedProcess) -> None:
        """Expect its end."""
        self._unfinished[process.id] = process

    def started(self, process: ManagedProcess, pid: int) -> None:
        """Publish that it runs."""
        command, *args = process.options.argv()
        place = os.fspath(process.options.dir or "")
        event = ActionProcessStarted(process.id, command, tuple(args), place, pid)

        def publish() -> None:
            self._flush(process.id)  # the last line of the run before it
            self._publish(iter((event,)))

        self._jobs.put(publish)

    def wrote(self, process: ManagedProcess, stream: Stream, data: bytes) -> None:
        """Publish each line."""
        with self._lock:
            self._unpublished += len(data)
            if self._unpublished > MAX_UNPUBLISHED:
                self._paused[process.id] = process
                process.pause_output()
        self._jobs.put(lambda: self._publish_lines(process.id, stream, data))

    def ended(self, process: ManagedProcess, error: Exception | None) -> None:
        """Publish its end, then mark it as done."""
        usage, status = process.usage, process.status

        def publish() -> None:
            if process.done.is_set():
                return  # ended() was interrupted, and called again
            self._flush(process.id)
            exited = ActionProcessExited(
                process.id, process.exit_code, usage.wall if usage else 0.0, error
            )
            if status is Status.KILLED and process.pid is not None:
                killed = ActionProcessKilled(process.id, process.last_signal)
                self._publish(iter((killed, exited)))
            else:
                self._publish(iter((exited,)))
            process.mark_done()
            self._unfinished.pop(process.id, None)
            self._end_if_finished()

        self._jobs.put(publish)

    def awaited(self, process: ManagedProcess) -> Latch:
        """The latch ``done``; but ``over`` within a handler, which ``done`` would wait for."""
        on_this_thread = threading.current_thread() is self._thread
        return process.over if on_this_thread else process.done

    def close(self) -> None:
        """Wait until the ends of all but the detached are published; then the thread ends.

        It waits no longer than for a program that cannot be killed, and not within a handler.
        """
        self._jobs.put(self._close)
        if threading.current_thread() is not self._thread:
            self._drained.wait(KILL_TIMEOUT)

    def _publish_lines(self, name: str, stream: Stream, data: bytes) -> None:
        splitter = self._splitters.setdefault((name, stream), LineSplitter())
        for at in range(0, len(data), _PIECE):
            parts, piece = splitter.overflow(data[at : at + _PIECE])
            self._publish(
                ActionProcessOutput(name, text, stream, partial) for text, partial in parts
            )
            lines = splitter.feed(piece)
            # What NamedTuple's own __new__ does, but without a Python call for each line.
            fields = zip(repeat(name), lines, repeat(stream), repeat(False))  # noqa: FBT003 - partial
            self._publish(map(tuple.__new__, repeat(ActionProcessOutput), fields))
        self._count_published(len(data))

    def _count_published(self, size: int) -> None:
        with self._lock:
            self._unpublished -= size
            if not self._paused or self._unpublished > MAX_UNPUBLISHED // 2:
                return
            resumed, self._paused = self._paused, {}
        for process in resumed.values():
            process.resume_output()

    def _flush(self, name: str) -> None:
        for stream in Stream:
            splitter = self._splitters.pop((name, stream), None)
            if splitter is not None and (line := splitter.rest()) is not None:
                self._publish(iter((ActionProcessOutput(name, line, stream),)))

    def _publish(self, events: Iterator[object]) -> None:
        while True:
            try:
                self._bus.actions(events)
            except WrongStateError:
                return  # the bus is closed
            except Exception:  # noqa: BLE001 - logged with its traceback
                _log.exception("a handler of a process's event failed")  # go on with the next
            else:
                return

    def _run(self) -> None:
        try:
            while True:
                self._jobs.get()()
        except _EndOfThread:
            pass

    def _close(self) -> None:
        self._closing = True
        self._end_if_finished()

    def _end_if_finished(self) -> None:
        """End the thread if nobody waits for an end that is still to be published."""
        if not self._closing:
            return
        processes = [*self._unfinished.values()]
        if all(process.options.detach for process in processes):
            self._drained.set()
        if not processes:
            raise _EndOfThread


class _EndOfThread(BaseException):
    """Ends the publisher's thread; no handler's error can be mistaken for it."""
