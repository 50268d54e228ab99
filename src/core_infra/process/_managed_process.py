"""A process as the service, the publisher and the runner see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from core_infra.process._lifecycle import Lifecycle
from core_infra.process._output import Output
from core_infra.process._process import Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.latch import Latch
    from core_infra._eventloop.loop import Loop
    from core_infra.process._errors import CannotKillError
    from core_infra.process._events import Stream
    from core_infra.process._options import Input, RunOptions
    from core_infra.process._output import Piece


class Publisher(Protocol):
    """Publishes what happens to processes, the events of each one in order."""

    def starting(self, process: ManagedProcess) -> None:
        """It is about to be started; :meth:`ended` follows, whether it starts or not."""

    def started(self, process: ManagedProcess, pid: int) -> None:
        """It runs."""

    def wrote(self, process: ManagedProcess, stream: Stream, data: bytes) -> None:
        """It has written; called on the loop's thread."""

    def ended(self, process: ManagedProcess, error: Exception | None) -> None:
        """It is over; must call ``process.mark_done()`` once all its events are published."""

    def awaited(self, process: ManagedProcess) -> Latch:
        """The latch to wait for: ``process.done``, or ``over`` where that could never be set."""

    def close(self) -> None:
        """No more processes are started; returns once the ends of the others are published."""


class ManagedProcess(Process):
    """A process with the operations of its service.

    Args:
        name: its id.
        options: the program, and how to run it.
        stdin: its input.
        buffer_size: bytes of output that are kept.
        group: the reaper's group that it belongs to.
        publisher: publishes its events.
        loop: serves it.
        on_done: called when it is over and all its output has been published, on any thread.
        on_output: called with each piece of output until it is over, on the loop's thread.
        linger: seconds for which its output is read after its end, unless its options say so.
    """

    def __init__(
        self,
        name: str,
        options: RunOptions,
        *,
        stdin: Input,
        buffer_size: int,
        group: int,
        publisher: Publisher,
        loop: Loop,
        on_done: Callable[[], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
        linger: float = 0,
    ) -> None:
        linger = linger if options.linger is None else options.linger
        life = Lifecycle(options, stdin, group, self, loop, linger=linger)
        super().__init__(name, options, life, Output(buffer_size), group)
        self._publisher = publisher
        self._on_done = on_done
        self._on_output = on_output

    def start(self, *, report_at_once: bool) -> None:
        """Start it, without waiting; :meth:`wait` raises the error if it does not start.

        Args:
            report_at_once: report its start at once; else it may be reported with an early end.
        """
        self._publisher.starting(self)
        self._life.start(report_at_once=report_at_once)

    def await_start(self) -> None:
        """Wait until it runs; raises as :meth:`Service.start_with_options` does."""
        self._life.loop.wait(self._life.start_known)
        if self.error is not None:
            raise self.error

    def give_up(self, error: BaseException) -> None:
        """End it because its starter was interrupted and nobody has it; nothing if it is over."""
        self._life.give_up(error)

    def start_stopping(self, grace: float | None = None) -> None:
        """Do as :meth:`stop` does, without waiting."""
        self._start_stopping(grace)

    def await_stopped(self) -> None:
        """Wait until it and all that it started are gone, after :meth:`start_stopping`.

        Raises:
            CannotKillError: something still runs 10 seconds after it was killed.
        """
        self._await_stopped()

    def await_done(self) -> None:
        """Wait until all its events are published, once it is over."""
        self._wait(None)

    def kill_leftovers(self, then: Callable[[CannotKillError | None], None]) -> None:
        """Kill what it has left behind, now that it is over, without waiting.

        Args:
            then: called on the loop's thread, with None when nothing is left.
        """
        self._life.kill_leftovers(then)

    def kept_output(self) -> Piece:
        """Its kept output, once it is over."""
        return self._output.ring.read()

    def pause_output(self) -> None:
        """Stop reading its output, so that it waits when it writes; on the loop's thread."""
        if self._life.run is not None:
            self._life.run.stdio.pause()

    def resume_output(self) -> None:
        """Go on reading its output, soon."""
        if self._life.run is not None:
            self._life.loop.post(self._life.run.stdio.resume)

    def mark_done(self) -> None:
        """Set ``done``; a caller that was interrupted may call it again."""
        if self.done.is_set():
            return
        self.done.set()
        self._life.loop.wake()  # it may run until then
        if self._on_done is not None:
            self._on_done()

    # The observer of its lifecycle

    def on_start(self, pid: int) -> None:
        """Publish that it runs."""
        self._run_start = self._output.ring.end
        self._publisher.started(self, pid)

    def on_output(self, stream: Stream, data: bytes) -> None:
        """Keep and publish output, of the program or of what it left behind."""
        if not self.options.disable_capture:
            self._output.write(stream, data)
        if not self._life.over.is_set():
            self._publisher.wrote(self, stream, data)
            if self._on_output is not None:
                self._on_output(data)

    def on_end(self, error: Exception | None) -> None:
        """Publish that it is over."""
        self._output.ring.close()
        self._publisher.ended(self, error)

    def _awaited(self) -> Latch:
        return self._publisher.awaited(self)
