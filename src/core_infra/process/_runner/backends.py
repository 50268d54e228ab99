"""Backends of a run: where its specs run, in this process's service or on an executor."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from core_infra._eventloop.supervisor import supervisor
from core_infra._unpatched import time
from core_infra.errors import CoreInfraError
from core_infra.process._output import LineSplitter
from core_infra.process._runner import attempt
from core_infra.process._runner.attempt import Outcome
from core_infra.process._service import forget_managed, start_managed

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from core_infra._eventloop.loop import Loop
    from core_infra.process._managed_process import ManagedProcess
    from core_infra.process._runner.spec import RunSpec
    from core_infra.process._service import Service

OnOutcome = Callable[[str, Outcome], None]
"""Called once for each attempt that was started: the spec's name, and the outcome."""

OnLines = Callable[[str, tuple[str, ...]], None]
"""Called with the name of a spec, and lines that its command has written."""


class Backend(Protocol):
    """Starts specs; each has one outcome, which may come on any thread."""

    def start(self, spec: RunSpec) -> None:
        """Start a spec; an error is its outcome, and is not raised."""

    def retry(self, spec: RunSpec) -> None:
        """Start a spec that has failed, once what that attempt has left behind is gone."""

    def stop(self, *, now: bool = False, await_calls: bool = True) -> None:
        """Stop what runs; each spec still has its outcome.

        Args:
            now: kill it; else send its stop signal first, and give it its grace.
            await_calls: wait for functions, which cannot be stopped, as long as they take; else
                abandon them after their grace.
        """

    def close(self) -> None:
        """Release resources: there are no outcomes outstanding, and nothing more is started."""


class ServiceBackend:
    """Runs commands by a service, on the run's own loop: no thread is woken between two of them.

    Calls run on threads. These stay for the next call, and are daemons: a call cannot be stopped,
    and one that hangs must not keep Python from exiting.

    Args:
        service: starts the commands.
        on_outcome: called with each outcome.
        loop: serves the commands; all methods are called on its thread.
        on_lines: called with lines as commands write them.
    """

    def __init__(
        self,
        service: Service,
        on_outcome: OnOutcome,
        loop: Loop,
        on_lines: OnLines | None = None,
    ) -> None:
        self._service = service
        self._on_outcome = on_outcome
        self._loop = loop
        self._on_lines = on_lines
        self._splitters: dict[str, LineSplitter] = {}
        self._numbers = itertools.count()
        self._running: dict[int, tuple[RunSpec, ManagedProcess]] = {}
        self._failed: dict[str, ManagedProcess] = {}
        self._stopped = False
        self._called: dict[str, RunSpec] = {}
        self._calls: SimpleQueue[RunSpec | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def start(self, spec: RunSpec) -> None:
        """Start a command, or pass a call to a thread."""
        if spec.call is not None:
            self._start_call(spec)
            return
        number = next(self._numbers)
        start = time.monotonic()
        try:
            process = start_managed(
                self._service,
                spec.options(),
                loop=self._loop,
                on_done=partial(self._loop.post, partial(self._finish, number)),
                on_output=partial(self._on_output, spec.name) if self._on_lines else None,
            )
        except Exception as error:  # noqa: BLE001 - any error is the outcome of the spec
            self._on_outcome(spec.name, Outcome(time.monotonic() - start, error=error))
        else:
            self._running[number] = (spec, process)

    def retry(self, spec: RunSpec) -> None:
        """Kill what the failed attempt has left behind, which may hold its port; then start."""
        process = self._failed.pop(spec.name, None)
        if process is None:
            self.start(spec)
            return
        start = time.monotonic()

        def on_gone(error: BaseException | None) -> None:
            if error is None and self._stopped:
                error = CoreInfraError(
                    f"{spec.name!r} was not tried again", why="the run was interrupted"
                )
            if error is None:
                self.start(spec)
            else:
                self._on_outcome(spec.name, Outcome(time.monotonic() - start, error=error))

        process.kill_leftovers(on_gone)

    def stop(self, *, now: bool = False, await_calls: bool = True) -> None:
        """Stop all commands at once."""
        self._stopped = True
        for _, process in self._running.values():
            process.start_stopping(0 if now else None)
        if not await_calls:
            for spec in [*self._called.values()]:
                supervisor().after(0 if now else spec.grace, partial(self._abandon, spec))

    def close(self) -> None:
        """End the threads."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _finish(self, number: int) -> None:
        spec, process = self._running.pop(number, (None, None))
        if spec is None or process is None:
            return  # it could not be started, and has its outcome
        splitter = self._splitters.pop(spec.name, None)
        if splitter is not None and self._on_lines and (rest := splitter.rest()) is not None:
            self._on_lines(spec.name, (rest,))
        if spec.retries and process.exit_code:
            self._failed[spec.name] = process
        self._on_outcome(spec.name, attempt.outcome(process, stopped=self._stopped))
        forget_managed(self._service, process)

    def _on_output(self, name: str, data: bytes) -> None:
        assert self._on_lines is not None  # noqa: S101 - else this is not called
        splitter = self._splitters.setdefault(name, LineSplitter())
        parts, data = splitter.overflow(data)
        lines = (*(part.text for part in parts), *splitter.feed(data))
        if lines:
            self._on_lines(name, lines)

    def _start_call(self, spec: RunSpec) -> None:
        self._called[spec.name] = spec
        self._calls.put(spec)
        with self._lock:
            if self._idle:
                self._idle -= 1
                return
        self._threads += 1
        threading.Thread(target=self._work, name="core-infra-task", daemon=True).start()

    def _work(self) -> None:
        while (spec := self._calls.get()) is not None:
            outcome = attempt.call(spec)
            with self._lock:
                self._idle += 1
            if self._called.pop(spec.name, None):  # else it was abandoned
                self._on_outcome(spec.name, outcome)

    def _abandon(self, spec: RunSpec) -> None:
        if self._called.pop(spec.name, None):  # else it has returned
            error = CoreInfraError(
                f"{spec.name!r} was abandoned",
                why="the run was stopped, and a function cannot be",
                todo="Let it check a flag, or run a command.",
            )
            self._on_outcome(spec.name, Outcome(spec.grace, error=error))


class ExecutorBackend:
    """Runs specs on an executor: other threads, processes or machines.

    Args:
        executor: runs them.
        on_outcome: called with each outcome.
        loop: not needed.
        on_lines: not called: lines of an executor may be anywhere.
    """

    def __init__(
        self,
        executor: Executor,
        on_outcome: OnOutcome,
        loop: Loop,  # noqa: ARG002
        on_lines: OnLines | None = None,  # noqa: ARG002
    ) -> None:
        self._executor = executor
        self._on_outcome = on_outcome
        self._key = uuid.uuid4().hex
        self._futures: dict[str, Future[Outcome]] = {}

    def start(self, spec: RunSpec) -> None:
        """Submit a spec."""
        try:
            future = self._executor.submit(attempt.attempt, spec, self._key)
        except Exception as error:  # noqa: BLE001 - not picklable, or the executor is broken
            self._on_outcome(spec.name, Outcome(0.0, error=error))
            return
        self._futures[spec.name] = future
        future.add_done_callback(lambda ended: self._finish(spec.name, ended))

    def retry(self, spec: RunSpec) -> None:
        """Submit it again: an attempt on an executor ends what it left behind by itself."""
        self.start(spec)

    def stop(self, *, now: bool = False, await_calls: bool = True) -> None:  # noqa: ARG002
        """Cancel what has not begun, stop what runs in this process, abandon the rest."""
        begun = [name for name, future in list(self._futures.items()) if not future.cancel()]
        ending = attempt.stop(self._key, 0 if now else None)
        for name in begun:
            # What is stopped here has an outcome by itself.
            if name not in ending and self._futures.pop(name, None) is not None:
                error = CoreInfraError(
                    f"{name!r} was abandoned",
                    why="the run was interrupted, and an executor cannot stop what it has begun",
                    todo="Give specs a timeout: that holds wherever they run.",
                )
                self._on_outcome(name, Outcome(0.0, error=error))

    def close(self) -> None:
        """Nothing to do: a spec that was abandoned may still begin, and ends at once."""

    def _finish(self, name: str, future: Future[Outcome]) -> None:
        if self._futures.pop(name, None) is None:
            return  # abandoned before
        try:
            outcome = future.result()
        except BaseException as error:  # noqa: BLE001 - such as KeyboardInterrupt of a worker
            outcome = Outcome(0.0, error=error)
        self._on_outcome(name, outcome)
