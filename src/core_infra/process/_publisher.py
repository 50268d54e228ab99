"""Tells the bus what happens to processes."""

from __future__ import annotations

import logging
import queue
import threading
from itertools import repeat
from typing import TYPE_CHECKING

from core_infra._unpatched import os
from core_infra.errors import WrongStateError
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

    from core_infra._eventloop.latch import Latch
    from core_infra.framework._bus import Bus
    from core_infra.process._process import Process


MAX_UNTOLD = 8 << 20
"""Bytes of output that wait for slow handlers; with more, the programs that write them wait."""

_PIECE = 32 << 10  # the lines of one stay in the processor's cache
_log = logging.getLogger(__name__)


class Teller:
    """A thread that hands events to the bus.

    A thread of its own, so that handlers may do what they like: also start programs, and wait for
    them. If they are slow, it is the writing programs that wait, as they would for a full pipe.

    Args:
        bus: where the events go.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._splitters: dict[tuple[str, Stream], LineSplitter] = {}
        self._untold = 0
        self._paused: dict[str, Process] = {}
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="core-infra-events", daemon=True)
        self._thread.start()

    def started(self, process: Process, pid: int) -> None:
        """Tell that it runs."""
        command, *args = process.options.argv()
        place = os.fspath(process.options.dir or "")
        event = ActionProcessStarted(process.id, command, tuple(args), place, pid)

        def tell() -> None:
            self._flush(process.id)  # what the run before it said last
            self._tell(iter((event,)))

        self._jobs.put(tell)

    def wrote(self, process: Process, stream: Stream, data: bytes) -> None:
        """Tell each line."""
        with self._lock:
            self._untold += len(data)
            if self._untold > MAX_UNTOLD:
                self._paused[process.id] = process
                process.pause_output()
        self._jobs.put(lambda: self._tell_lines(process.id, stream, data))

    def ended(self, process: Process, error: Exception | None) -> None:
        """Tell the end, then let go who waits for it."""
        usage, status = process.usage, process.status

        def tell() -> None:
            if process.done.is_set():
                return  # whoever said so was interrupted, and has said it again
            self._flush(process.id)
            exited = ActionProcessExited(
                process.id, process.exit_code, usage.wall if usage else 0.0, error
            )
            if status is Status.KILLED and process.pid is not None:
                self._tell(iter((ActionProcessKilled(process.id, process.last_signal), exited)))
            else:
                self._tell(iter((exited,)))
            process.finish()

        self._jobs.put(tell)

    def awaited(self, process: Process) -> Latch:
        """That everybody knows; for a handler, which is being told, the mere end."""
        on_this_thread = threading.current_thread() is self._thread
        return process.over if on_this_thread else process.done

    def close(self) -> None:
        """End the thread once all is told."""
        self._jobs.put(self._end)

    def _tell_lines(self, name: str, stream: Stream, data: bytes) -> None:
        splitter = self._splitters.setdefault((name, stream), LineSplitter())
        for at in range(0, len(data), _PIECE):
            parts, piece = splitter.overflow(data[at : at + _PIECE])
            self._tell(ActionProcessOutput(name, text, stream, goes_on) for text, goes_on in parts)
            lines = splitter.feed(piece)
            # What NamedTuple's own __new__ does, but without a call of Python's for each line.
            fields = zip(repeat(name), lines, repeat(stream), repeat(False))  # noqa: FBT003 - partial
            self._tell(map(tuple.__new__, repeat(ActionProcessOutput), fields))
        self._told(len(data))

    def _told(self, size: int) -> None:
        with self._lock:
            self._untold -= size
            if not self._paused or self._untold > MAX_UNTOLD // 2:
                return
            resumed, self._paused = self._paused, {}
        for process in resumed.values():
            process.resume_output()

    def _flush(self, name: str) -> None:
        for stream in Stream:
            splitter = self._splitters.pop((name, stream), None)
            if splitter is not None and (line := splitter.rest()) is not None:
                self._tell(iter((ActionProcessOutput(name, line, stream),)))

    def _tell(self, events: Iterator[object]) -> None:
        while True:
            try:
                self._bus.actions(events)
            except WrongStateError:
                return  # the bus is closed: there is nobody to tell
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

    def _end(self) -> None:
        raise _EndOfThread


class _EndOfThread(BaseException):
    """Ends the teller's thread; no handler's error can be taken for it."""


class Silent:
    """Tells nobody."""

    def started(self, process: Process, pid: int) -> None:
        """Nobody wants to know."""

    def wrote(self, process: Process, stream: Stream, data: bytes) -> None:
        """Nobody wants to know."""

    def ended(self, process: Process, error: Exception | None) -> None:  # noqa: ARG002
        """Nobody is to be told first."""
        process.finish()

    def awaited(self, process: Process) -> Latch:
        """The end."""
        return process.done

    def close(self) -> None:
        """There is nothing to close."""
