"""The lifecycle of a process: the state machine behind :class:`Process`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from core_infra._eventloop.latch import Latch
from core_infra._eventloop.loop import READ
from core_infra._eventloop.supervisor import TRANSIENT_ERRORS, Deferred
from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.process._errors import KILL_TIMEOUT, CannotKillError
from core_infra.process._execution import Execution
from core_infra.process._reaper.client import StartRefusedError
from core_infra.process._restart import RestartCounter
from core_infra.process._start_failure import start_error
from core_infra.process._status import ENDED, Status, move
from core_infra.process._stop_escalation import StopEscalation

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.loop import Loop
    from core_infra.process._events import Stream
    from core_infra.process._options import Input, RunOptions
    from core_infra.process._reaper.protocol import End


class Observer(Protocol):
    """Called by a lifecycle, on the loop's thread."""

    def on_start(self, pid: int) -> None:
        """The program runs."""

    def on_output(self, stream: Stream, data: bytes) -> None:
        """The program has written."""

    def on_end(self, error: Exception | None) -> None:
        """The process is over; *error* is why it could not be started."""


class Lifecycle:
    """Starts a program, restarts it if so asked, and stops it.

    Everything happens on the loop's thread, without a lock: a signal handler that waits for this
    process cannot have interrupted the owner of one.

    Args:
        options: the program, and how to run it.
        stdin: its input; from :meth:`RunOptions.input`.
        group: the reaper's group that it belongs to.
        observer: called at each event.
        loop: serves it.
        linger: seconds after its end for which its output is still read, as long as something
            that it left behind has its pipes.

    Attributes:
        start_known: set once it runs, or will not.
        over: set when it is over.
        run: its last execution.
        error: why it could not be started.
        last_signal: the signal that ended it, or else the last one sent; 0 if there was none.
        timed_out: it was stopped because of its timeout.
    """

    def __init__(
        self,
        options: RunOptions,
        stdin: Input,
        group: int,
        observer: Observer,
        loop: Loop,
        *,
        linger: float = 0,
    ) -> None:
        self.options = options
        self.loop = loop
        self.status = Status.PENDING
        self.start_known = Latch()
        self.over = Latch()
        self.run: Execution | None = None
        self.error: Exception | None = None
        self.pid: int | None = None
        self.restarts = 0
        self.last_signal = 0
        self.timed_out = False
        self.deferred = Deferred(loop)
        self._stdin = stdin
        self._group = group
        self._observer = observer
        self._linger = linger
        self._lingers = False  # it has ended, and its output is still read
        self._linger_over = False
        self._escalation = StopEscalation()
        self._starting = False
        self._stop_begun: Latch | None = None  # of the last stop: set once the loop has begun it
        self._end_reported = False
        self._restart_counter = RestartCounter(options.restart)

    # Starting

    def start(self, *, report_at_once: bool) -> None:
        """Start the program; the observer and ``start_known`` have the outcome.

        Args:
            report_at_once: report its start at once; else it may be reported with an early end.
        """
        if self.loop.is_current():
            self._start(report_at_once=report_at_once)
        else:  # on the loop's thread no signal can interrupt it
            self.loop.post(lambda: self._start_quietly(report_at_once=report_at_once))

    def give_up(self, error: BaseException) -> None:
        """End it because its starter was interrupted, wherever that was; nothing if it is over."""
        if self.loop.is_current():
            self._give_up(error)
        else:
            self.loop.post(lambda: self._give_up(error))

    def _give_up(self, error: BaseException) -> None:
        run = self.run
        if self._end_reported:
            return
        if run is not None:  # it may have been started
            run.kill()
        if self.status is Status.PENDING:
            if run is not None:
                self.loop.post(run.close)
            self._finish(Status.FAILED, error if isinstance(error, Exception) else None)
        elif self.status in ENDED:
            self._finish(self.status, self.error)
        elif run is not None and run.channel >= 0:
            self.loop.watch(run.channel, READ, lambda _: self._on_report(run))

    def _start_quietly(self, *, report_at_once: bool) -> None:
        with contextlib.suppress(Exception):  # the observer gets it
            self._start(report_at_once=report_at_once)

    def _start(self, *, report_at_once: bool) -> None:
        if self._end_reported:
            return  # it was given up before, or stopped
        self._starting = True
        try:
            try:
                run = self._request_start(report_at_once=report_at_once)
            except UnavailableError:  # the reaper was killed before it received the request
                run = self._request_start(report_at_once=report_at_once)
            self.loop.watch(run.channel, READ, lambda _: self._on_report(run))
        except OSError as cause:
            if cause.errno is None:  # raised by a signal handler: the system's errors have a number
                self._give_up(cause)
                raise
            self._start_refused(cause)
        except CoreInfraError as error:  # there is no reaper
            self._start_failed(error, transient=True)
        except BaseException as error:
            self._give_up(error)
            raise

    def _request_start(self, *, report_at_once: bool) -> Execution:
        options = self.options
        is_captured = options.log is None and not options.detach
        on_output = self._observer.on_output if is_captured else None
        self.run = run = Execution(options, self._stdin, self._group, self.loop, on_output)
        try:
            run.request_start(report_at_once=report_at_once)
        except BaseException:
            run.close()
            raise
        return run

    def _start_refused(self, cause: OSError) -> None:
        in_directory = isinstance(cause, StartRefusedError) and cause.in_directory
        error = start_error(self.options, cause, in_directory=in_directory)
        self._start_failed(error, transient=cause.errno in TRANSIENT_ERRORS)

    def _start_failed(self, error: CoreInfraError, *, transient: bool) -> None:
        """Finish with *error*; a restart that fails for a transient reason is tried again later."""
        if self.run is not None:
            self.run.close()
        if transient and self.restarts and not self._escalation.started:
            pause = self._restart_counter.next_pause(exit_code=1)
            if pause is not None:
                self._starting = False
                self.deferred.later(pause, self._start_again)
                return
        self._finish(Status.FAILED, error)

    def _on_report(self, run: Execution) -> None:
        """Process the reaper's report of a run: its start, its end, or both."""
        run.read_report()
        if self._end_reported:  # its starter was interrupted, and it has been killed
            run.close()
            return
        was_running = self.status is not Status.PENDING
        if not was_running:
            try:
                pid = run.started_pid()
            except OSError as cause:
                self._start_refused(cause)
                return
            except CoreInfraError as error:  # the reaper was killed
                self._start_failed(error, transient=True)
                return
            if pid is None:
                return
            self._on_running(run, pid)
        end = run.reported_end()
        if end is not None:
            run.end = end
            self.conclude(run, end)
        if not was_running:
            run.stdio.start_reading()

    def _on_running(self, run: Execution, pid: int) -> None:
        self.pid = pid
        self._linger_over = False
        self.status = move(self.status, Status.RUNNING)  # before the observer is called
        self._starting = False
        self._observer.on_start(pid)
        self.start_known.set()
        if self.options.timeout is not None:
            self.deferred.later(self.options.timeout, self._on_timeout)
        if self._escalation.started:  # since before the start was known
            self._escalation.terminate(self, run)

    def _start_again(self) -> None:
        if self._escalation.started or self.status in ENDED:
            return
        if self.run is not None:
            self.run.close()
        self.restarts += 1
        self._start(report_at_once=False)

    # Stopping

    def stop(self, grace: float) -> None:
        """Start to end it and all that it started; does not wait."""
        if self.loop.is_current():
            self._stop(grace)
            return
        self._stop_begun = begun = Latch()

        def stop() -> None:
            is_repeated = False
            try:
                self._stop(grace)
            except OSError as error:
                is_repeated = error.errno in TRANSIENT_ERRORS
                raise
            finally:
                if not is_repeated:
                    begun.set()

        self.deferred.soon(stop)

    def _stop(self, grace: float) -> None:
        self._escalation.start(grace)
        run = self.run
        if self.status is not Status.PENDING:
            if run is None:
                return  # it was given up before it was started
            self._escalation.terminate(self, run, grace)
            if run.end is not None and not self._end_reported:
                self.conclude(run, run.end)
        elif not self._starting:  # not yet, or it pauses between two runs
            self.deferred.cancel()
            self._finish(Status.KILLED)

    def await_gone(self) -> None:
        """Wait until nothing is left of it, once it was stopped.

        Raises:
            CannotKillError: something still runs.
        """
        if self._stop_begun is not None:
            self.loop.wait(self._stop_begun)
        self.loop.wait(self.over)
        if isinstance(self.error, CannotKillError):
            raise self.error
        if (grace_over := self._escalation.grace_over()) is not None:
            self.loop.wait(grace_over)
        if self.run is not None:
            self.run.await_gone()

    def kill_leftovers(self, then: Callable[[CannotKillError | None], None]) -> None:
        """Kill what it has left behind, now that it is over; does not wait.

        Args:
            then: called once on the loop's thread: with None when nothing is left, or with the
                reason why something still is after 10 seconds.
        """
        run, waiting = self.run, [then]
        if run is None:
            then(None)
            return

        def finish(error: CannotKillError | None) -> None:
            self.deferred.cancel()
            for callback in waiting:
                callback(error)
            waiting.clear()

        def on_kill_timeout() -> None:
            finish(CannotKillError.of(run.members()))

        run.kill(then=lambda: self.loop.post(lambda: finish(None)))
        self.deferred.later(KILL_TIMEOUT, on_kill_timeout)

    def leftovers(self) -> list[int]:
        """The pids of all that it started and that still runs, itself included."""
        return self.run.members() if self.run is not None else []

    def report_unkillable(self, run: Execution) -> None:
        """Finish with an error, rather than let those that wait for it wait forever."""
        if not self._end_reported:
            self._finish(Status.KILLED, CannotKillError.of(run.members()))

    def _on_timeout(self) -> None:
        if self._lingers:
            self._stop_lingering()
            return
        self.timed_out = True
        self._stop(self.options.grace_period)

    # Its end

    def conclude(self, run: Execution, end: End) -> None:
        """Process the end of a run; if that is interrupted, :meth:`stop` repeats all of it."""
        run.close_channel()
        if self._end_reported or self.status is Status.PENDING:
            return  # the start was interrupted, and give_up() finishes it
        run.stdio.drain()
        if self._waits_for_others(run, end):
            return
        self.deferred.cancel()
        run.forget_process_group()
        run.stdio.on_closed = None
        if end.exit_code < 0:
            self.last_signal = -end.exit_code
        if self._escalation.started:
            run.kill()
            self._escalation.finish()
            self._finish(Status.KILLED)
        elif not self._restart(run, end):
            self._finish(Status.KILLED if end.exit_code < 0 else Status.EXITED)

    def _waits_for_others(self, run: Execution, end: End) -> bool:
        """Whether what it started still has time, to end or to write."""

        def conclude() -> None:
            self.conclude(run, end)

        if self._escalation.started:
            return self._escalation.waits_for_process_group(run, conclude)
        self._lingers = self._linger > 0 and not self._linger_over and run.stdio.is_read()
        if self._lingers:
            run.stdio.on_closed = conclude
            self.deferred.later(self._linger, self._stop_lingering)
        return self._lingers

    def _stop_lingering(self) -> None:
        self._linger_over = True
        run = self.run
        if run is not None and run.end is not None:
            self.conclude(run, run.end)

    def _restart(self, run: Execution, end: End) -> bool:
        pause = self._restart_counter.next_pause(end.exit_code, end.at - run.began)
        if pause is None:
            return False
        self.status = move(self.status, Status.PENDING)
        # What the old run left behind may still hold its port.
        run.kill(then=lambda: self.deferred.later(pause, self._start_again))
        return True

    def _finish(self, status: Status, error: Exception | None = None) -> None:
        self.error = error
        if self.status not in ENDED:
            self.status = move(self.status, status)
        self.over.set()
        self.start_known.set()
        self._observer.on_end(error)
        self._end_reported = True
        del self._observer  # it refers to us: its output would be kept until garbage is collected
