"""Where specs run: in this process's service, or on an executor."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from core_infra.errors import CoreInfraError
from core_infra.process.runner import attempt
from core_infra.process.runner.attempt import Outcome

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

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

    def close(self) -> None:
        """All have reported, and nothing more is started."""


class ServiceLauncher:
    """Specs on threads of our own, commands by a service.

    The threads stay for the next spec, and are daemons: nothing can end a call, and one that hangs
    must not keep Python from ending.

    Args:
        service: starts the commands.
        report: hears what came of each.
    """

    def __init__(self, service: Service, report: Report) -> None:
        self._service = service
        self._report = report
        self._key = uuid.uuid4().hex
        self._todo: SimpleQueue[RunSpec | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def start(self, spec: RunSpec) -> None:
        """Give a spec to a thread."""
        self._todo.put(spec)
        with self._lock:
            if self._idle:
                self._idle -= 1
                return
        self._threads += 1
        threading.Thread(target=self._work, name="core-infra-task", daemon=True).start()

    def cancel(self) -> None:
        """Stop all commands at once: asked politely first, then killed."""
        attempt.end(self._key)

    def close(self) -> None:
        """End the threads."""
        for _ in range(self._threads):
            self._todo.put(None)
        attempt.forget(self._key)

    def _work(self) -> None:
        while (spec := self._todo.get()) is not None:
            outcome = attempt.run(spec, self._key, self._service)
            with self._lock:
                self._idle += 1
            self._report(spec.name, outcome)


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
        ending = attempt.end(self._key)
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
