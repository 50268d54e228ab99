"""Where specs run: in this process's service, or on an executor."""

from __future__ import annotations

import contextlib
import itertools
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from core_infra._eventloop.supervisor import supervisor
from core_infra._unpatched import time
from core_infra.errors import CoreInfraError
from core_infra.process._errors import ProcessNotFoundError
from core_infra.process._output import LineSplitter
from core_infra.process._runner import attempt
from core_infra.process._runner.attempt import Outcome
from core_infra.process._service import start_managed

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from core_infra._eventloop.loop import Loop
    from core_infra.process._managed_process import ManagedProcess
    from core_infra.process._runner.freshness import Basis, Freshness
    from core_infra.process._runner.spec import RunSpec
    from core_infra.process._service import Service


Report = Callable[[str, Outcome], None]
"""Told once for each spec that was started: its name, and what came of it."""


Wrote = Callable[[str, tuple[str, ...]], None]
"""Called with the name of a spec, and lines that its command has written."""


class Launcher(Protocol):
    """Starts specs; each reports once, on any thread."""

    def start(self, spec: RunSpec) -> None:
        """Start a spec; whatever goes wrong is reported, not raised."""

    def again(self, spec: RunSpec) -> None:
        """Start a spec that has failed, once what that attempt has left behind is gone."""

    def cancel(self, *, now: bool = False, await_calls: bool = True) -> None:
        """End what runs; each still reports.

        Args:
            now: kill it; else ask it first, and give it the time that it wants for that.
            await_calls: wait for functions, which nothing can end, as long as they take; else
                give them up after that time.
        """

    def close(self) -> None:
        """All have reported, and nothing more is started."""


class ServiceLauncher:
    """Commands by a service, on the run's own loop: nobody else is woken between two of them.

    Calls get threads. These stay for the next call, and are daemons: nothing can end a call, and
    one that hangs must not keep Python from ending.

    Args:
        service: starts the commands.
        report: hears what came of each.
        loop: attends to the commands; all methods are called on its thread.
        wrote: hears what commands write, as it comes.
    """

    def __init__(
        self, service: Service, report: Report, loop: Loop, wrote: Wrote | None = None
    ) -> None:
        self._service = service
        self._report = report
        self._loop = loop
        self._wrote = wrote
        self._splitters: dict[str, LineSplitter] = {}
        self._numbers = itertools.count()
        self._running: dict[int, tuple[RunSpec, ManagedProcess]] = {}
        self._failed: dict[str, ManagedProcess] = {}
        self._cancelled = False
        self._called: dict[str, RunSpec] = {}
        self._calls: SimpleQueue[RunSpec | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def start(self, spec: RunSpec) -> None:
        """Start a command, or give a call to a thread."""
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
                on_done=lambda: self._loop.post(lambda: self._over(number)),
                on_output=partial(self._write, spec.name) if self._wrote else None,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what came of the spec
            self._report(spec.name, Outcome(time.monotonic() - start, error=error))
        else:
            self._running[number] = (spec, process)

    def again(self, spec: RunSpec) -> None:
        """Kill what the failed attempt has left behind, which may hold its port; then start."""
        process = self._failed.pop(spec.name, None)
        if process is None:
            self.start(spec)
            return
        start = time.monotonic()

        def go_on(error: BaseException | None) -> None:
            if error is None and self._cancelled:
                error = CoreInfraError(
                    f"{spec.name!r} was not tried again", why="the run was interrupted"
                )
            if error is None:
                self.start(spec)
            else:
                self._report(spec.name, Outcome(time.monotonic() - start, error=error))

        process.kill_leftovers(go_on)

    def cancel(self, *, now: bool = False, await_calls: bool = True) -> None:
        """Stop all commands at once: asked politely first, then killed."""
        self._cancelled = True
        for _, process in self._running.values():
            process.start_stopping(0 if now else None)
        if not await_calls:
            for spec in [*self._called.values()]:
                supervisor().after(0 if now else spec.grace, partial(self._give_up, spec))

    def close(self) -> None:
        """End the threads."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _over(self, number: int) -> None:
        spec, process = self._running.pop(number, (None, None))
        if spec is None or process is None:
            return  # it could not be started, and that was reported
        splitter = self._splitters.pop(spec.name, None)
        if splitter is not None and self._wrote and (rest := splitter.rest()) is not None:
            self._wrote(spec.name, (rest,))
        if spec.retries and process.exit_code:
            self._failed[spec.name] = process
        self._report(spec.name, attempt.outcome(process, stopped=self._cancelled))
        with contextlib.suppress(ProcessNotFoundError):  # somebody has cleared the service
            self._service.remove(process.id)

    def _write(self, name: str, data: bytes) -> None:
        assert self._wrote is not None  # noqa: S101 - else nobody calls this
        splitter = self._splitters.setdefault(name, LineSplitter())
        parts, data = splitter.overflow(data)
        lines = (*(part.text for part in parts), *splitter.feed(data))
        if lines:
            self._wrote(name, lines)

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
            if self._called.pop(spec.name, None):  # else it was given up
                self._report(spec.name, outcome)

    def _give_up(self, spec: RunSpec) -> None:
        if self._called.pop(spec.name, None):  # else it has returned
            error = CoreInfraError(
                f"{spec.name!r} was given up",
                why="the run was ended, and nothing can end a function",
                todo="Let it look at a flag, or run a command.",
            )
            self._report(spec.name, Outcome(spec.grace, error=error))


class ExecutorLauncher:
    """Specs on an executor: other threads, processes or machines.

    Args:
        executor: runs them.
        report: hears what came of each.
        loop: not needed.
        wrote: not called: what an executor runs may be anywhere.
    """

    def __init__(
        self,
        executor: Executor,
        report: Report,
        loop: Loop,  # noqa: ARG002
        wrote: Wrote | None = None,  # noqa: ARG002
    ) -> None:
        self._executor = executor
        self._report = report
        self._key = uuid.uuid4().hex
        self._futures: dict[str, Future[Outcome]] = {}

    def start(self, spec: RunSpec) -> None:
        """Submit a spec."""
        try:
            future = self._executor.submit(attempt.attempt, spec, self._key)
        except Exception as error:  # noqa: BLE001 - it cannot be pickled, or the executor is broken
            self._report(spec.name, Outcome(0.0, error=error))
            return
        self._futures[spec.name] = future
        future.add_done_callback(lambda ended: self._ended(spec.name, ended))

    def again(self, spec: RunSpec) -> None:
        """Submit it again: each attempt has ended what it left behind when it reports."""
        self.start(spec)

    def cancel(self, *, now: bool = False, await_calls: bool = True) -> None:  # noqa: ARG002
        """Take back what has not begun, end what runs in this process, give up on the rest."""
        begun = [name for name, future in list(self._futures.items()) if not future.cancel()]
        ending = attempt.end(self._key, 0 if now else None)
        for name in begun:
            # What is ended here reports by itself.
            if name not in ending and self._futures.pop(name, None) is not None:
                error = CoreInfraError(
                    f"{name!r} was given up",
                    why="the run was interrupted, and an executor cannot end what it has begun",
                    todo="Give specs a timeout: that holds wherever they run.",
                )
                self._report(name, Outcome(0.0, error=error))

    def close(self) -> None:
        """Nothing to do: a spec that was given up may still begin, and ends at once."""

    def _ended(self, name: str, future: Future[Outcome]) -> None:
        if self._futures.pop(name, None) is None:
            return  # given up before
        try:
            outcome = future.result()
        except BaseException as error:  # noqa: BLE001 - a worker's KeyboardInterrupt, for one
            outcome = Outcome(0.0, error=error)
        self._report(name, outcome)


_READERS = 4


class CheckingLauncher:
    """Another launcher, asked only for what is not up to date.

    Files are read on threads: the loop attends to programs meanwhile.

    Args:
        inner: makes that launcher.
        freshness: says what is up to date.
        report: hears what came of each.
        loop: all methods are called on its thread.
        wrote: hears what commands write.
    """

    def __init__(
        self,
        inner: Callable[[Report, Loop, Wrote | None], Launcher],
        freshness: Freshness,
        report: Report,
        loop: Loop,
        wrote: Wrote | None,
    ) -> None:
        self._inner = inner(self._ended, loop, wrote)
        self._freshness = freshness
        self._report = report
        self._loop = loop
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="core-infra-reader")
        self._begun: dict[str, tuple[RunSpec, Basis]] = {}
        self._cancelled = False

    def start(self, spec: RunSpec) -> None:
        """Start a spec, unless it is up to date."""
        if spec.inputs or spec.outputs:
            self._readers.submit(self._check, spec)
        else:
            self._inner.start(spec)

    def again(self, spec: RunSpec) -> None:
        """Start it again: what it is run from is what it was run from before."""
        self._inner.again(spec)

    def cancel(self, *, now: bool = False, await_calls: bool = True) -> None:
        """End what runs."""
        self._cancelled = True
        self._inner.cancel(now=now, await_calls=await_calls)

    def close(self) -> None:
        """All have reported."""
        self._readers.shutdown()
        self._inner.close()

    def _check(self, spec: RunSpec) -> None:
        try:
            basis = self._freshness.begin(spec)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what came of the spec
            self._report(spec.name, Outcome(0.0, error=error))
            return
        if basis.fresh:
            self._report(spec.name, Outcome(0.0, cached=True))
            return
        self._begun[spec.name] = (spec, basis)
        self._loop.post(lambda: self._start(spec))

    def _start(self, spec: RunSpec) -> None:
        if self._cancelled:
            error = CoreInfraError(f"{spec.name!r} did not run", why="the run was interrupted")
            self._report(spec.name, Outcome(0.0, error=error))
        else:
            self._inner.start(spec)

    def _ended(self, name: str, outcome: Outcome) -> None:
        begun = self._begun.get(name)
        if begun is None or self._cancelled or outcome.error or outcome.exit_code:
            self._report(name, outcome)
        else:
            self._readers.submit(self._passed, *begun, outcome)

    def _passed(self, spec: RunSpec, basis: Basis, outcome: Outcome) -> None:
        try:
            self._freshness.passed(spec, basis)
        finally:
            self._report(spec.name, outcome)
