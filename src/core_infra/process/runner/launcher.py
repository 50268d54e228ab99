"""Where specs run: in this process's service, or on an executor."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from core_infra.errors import CoreInfraError
from core_infra.process.runner import attempt
from core_infra.process.runner.attempt import Outcome

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from core_infra.process.process import Process
    from core_infra.process.runner.spec import RunSpec
    from core_infra.process.service import Service

Report = Callable[[str, Outcome], None]
"""Told once for each spec that was started: its name, and what came of it."""


class Launcher(Protocol):
    """Starts specs; each reports once, on any thread."""

    def start(self, spec: RunSpec) -> None:
        """Start a spec; whatever goes wrong is reported, not raised."""

    def cancel(self) -> None:
        """End what runs; each still reports."""

    def finish(self) -> None:
        """After :meth:`cancel` and all reports: wait until nothing is left of what was ended."""


class ServiceLauncher:
    """Commands as processes of a service, calls on threads.

    Args:
        service: starts the processes.
        report: hears what came of each.
    """

    def __init__(self, service: Service, report: Report) -> None:
        self._service = service
        self._report = report
        self._processes: dict[str, Process] = {}
        self._ending: list[Process] = []

    def start(self, spec: RunSpec) -> None:
        """Start a spec."""
        if spec.call is not None:
            # A daemon: nothing can end a call, and one that hangs must not keep Python from ending.
            threading.Thread(target=self._call, args=(spec,), name=spec.name, daemon=True).start()
            return
        start = time.monotonic()
        try:
            process = self._service.start_with_options(spec.options())
        except Exception as error:  # noqa: BLE001 - it is what came of the spec
            self._report(spec.name, Outcome(time.monotonic() - start, error=error))
            return
        self._processes[spec.name] = process
        threading.Thread(target=self._wait, args=(spec.name, process), daemon=True).start()

    def cancel(self) -> None:
        """Stop all processes at once: asked politely first, then killed."""
        self._ending += list(self._processes.values())
        for process in self._ending:
            process.begin_to_stop()

    def finish(self) -> None:
        """Wait for what the processes have started."""
        for process in self._ending:
            process.finish_stopping()

    def _call(self, spec: RunSpec) -> None:
        self._report(spec.name, attempt.of_call(spec))

    def _wait(self, name: str, process: Process) -> None:
        process.done.wait()
        self._ended(name, process)

    def _ended(self, name: str, process: Process) -> None:
        outcome = attempt.of_process(process)
        self._processes.pop(name, None)
        self._service.remove(process.id)
        self._report(name, outcome)


class ExecutorLauncher:
    """Specs on an executor: other threads, processes or machines.

    Args:
        executor: runs them.
        report: hears what came of each.
    """

    def __init__(self, executor: Executor, report: Report) -> None:
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

    def cancel(self) -> None:
        """Take back what has not begun, end what runs in this process, give up on the rest."""
        begun = [name for name, future in list(self._futures.items()) if not future.cancel()]
        ending = attempt.end_here(self._key)
        for name in begun:
            # What is ended here reports by itself.
            if name not in ending and self._futures.pop(name, None) is not None:
                error = CoreInfraError(
                    f"{name!r} was given up",
                    why="the run was interrupted, and an executor cannot end what it has begun",
                    todo="Give specs a timeout: that holds wherever they run.",
                )
                self._report(name, Outcome(0.0, error=error))

    def finish(self) -> None:
        """Nothing to do: an attempt ends when all that it started is gone."""

    def _ended(self, name: str, future: Future[Outcome]) -> None:
        if self._futures.pop(name, None) is None:
            return  # given up before
        try:
            outcome = future.result()
        except BaseException as error:  # noqa: BLE001 - a worker's KeyboardInterrupt, for one
            outcome = Outcome(0.0, error=error)
        self._report(name, outcome)
