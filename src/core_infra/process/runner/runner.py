"""Specs run by their dependencies, one after another, or all at once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError
from core_infra.process.real import os
from core_infra.process.runner.engine import Engine
from core_infra.process.runner.events import RunStarted
from core_infra.process.runner.graph import Graph
from core_infra.process.runner.launcher import ExecutorLauncher, ServiceLauncher
from core_infra.process.runner.plan import make_plan
from core_infra.process.runner.results import RunInterruptedError
from core_infra.process.runner.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from core_infra.process.loop import Loop
    from core_infra.process.runner.durations import Durations
    from core_infra.process.runner.events import Event
    from core_infra.process.runner.launcher import Launcher, Report
    from core_infra.process.runner.plan import Plan
    from core_infra.process.runner.results import RunAllResult
    from core_infra.process.runner.spec import RunSpec
    from core_infra.process.service import Service


class Runner:
    """Runs specs as processes of a service.

    Args:
        service: starts the commands.
        workers: how many specs run at once; by default as many as this process may use CPUs.
        pools: how many places each pool that specs name has.
        keep_going: after a failure, go on with all that does not wait for it; else start nothing
            more.
        durations: remembers how long specs take, so that the next run starts the longest path
            first.
        listener: called with each event of :mod:`core_infra.process.runner.events`; a board, or
            a bus (``core.action``).

    Raises:
        InvalidError: workers is less than 1.
    """

    def __init__(
        self,
        service: Service,
        *,
        workers: int | None = None,
        pools: Mapping[str, int] | None = None,
        keep_going: bool = True,
        durations: Durations | None = None,
        listener: Callable[[Event], object] | None = None,
    ) -> None:
        if workers is not None and not _is_count(workers):
            raise InvalidError(f"a run cannot have {workers!r} workers", todo="Give at least 1.")
        self._service = service
        self._workers = workers
        self._pools = dict(pools or {})
        self._keep_going = keep_going
        self._durations = durations
        self._listener = listener or (lambda _event: None)

    def run_all(
        self, specs: Sequence[RunSpec], *, executor: Executor | None = None
    ) -> RunAllResult:
        """Run specs by their dependencies: each starts the moment that its own allow it.

        What waits for a failed spec is skipped, unless that spec has ``allow_failure``.

        Args:
            specs: what to run, in any order.
            executor: runs them instead of the service: any ``concurrent.futures.Executor``, also
                one of a cluster. It decides how many run at once, unless ``workers`` was given.
                Commands need their programs and directories where they run; a call must pickle.

        Raises:
            InvalidGraphError: the specs cannot be run together; nothing has been started.
            RunInterruptedError: a KeyboardInterrupt has ended the run; it has the result.
        """
        return self._run(self._graph([*specs], None), executor)

    def run_sequential(self, specs: Sequence[RunSpec]) -> RunAllResult:
        """Run specs one after another in the order given, whatever their ``after`` says.

        After a failure (unless that spec has ``allow_failure``) the rest is skipped.

        Raises:
            CoreInfraError: as :meth:`run_all`.
        """
        specs = [*specs]
        chain = [[], *([before.name] for before, _ in pairwise(specs))]
        return self._run(self._graph(specs, chain[: len(specs)]), None)

    def run_parallel(self, specs: Sequence[RunSpec]) -> RunAllResult:
        """Run specs at once, as many as there are workers, whatever their ``after`` says.

        Raises:
            CoreInfraError: as :meth:`run_all`.
        """
        specs = [*specs]
        return self._run(self._graph(specs, [[]] * len(specs)), None)

    def plan(self, specs: Sequence[RunSpec]) -> Plan:
        """What :meth:`run_all` would do, without doing it.

        Raises:
            InvalidGraphError: the specs cannot be run together.
        """
        graph = self._graph([*specs], None)
        durations = self._known_durations()
        return make_plan(
            graph, self._schedule(graph, self._workers or cpus(), durations), durations
        )

    def _graph(self, specs: Sequence[RunSpec], after: Sequence[Sequence[str]] | None) -> Graph:
        return Graph(specs, self._pools, after)

    def _known_durations(self) -> dict[str, float]:
        return self._durations.load() if self._durations else {}

    def _schedule(
        self, graph: Graph, workers: int | None, durations: Mapping[str, float]
    ) -> Schedule:
        return Schedule(
            graph,
            workers=workers,
            pools=self._pools,
            durations=durations,
            keep_going=self._keep_going,
        )

    def _run(self, graph: Graph, executor: Executor | None) -> RunAllResult:
        durations = self._known_durations()
        workers = self._workers
        launcher: Callable[[Report, Loop], Launcher]
        if executor is None:
            workers = workers or cpus()
            launcher = partial(ServiceLauncher, self._service)
        else:
            launcher = partial(ExecutorLauncher, executor)
        engine = Engine(
            graph,
            self._schedule(graph, workers, durations),
            launcher,
            self._listener,
            RunStarted(tuple(graph.specs.values()), workers, durations),
        )
        return _on_a_thread(engine, self._durations)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def _on_a_thread(engine: Engine, durations: Durations | None) -> RunAllResult:
    # A signal's exception hits the main thread anywhere. There it finds nothing but a wait; the
    # engine's thread is asked to end, and never loses a process that it is just starting.
    future: Future[RunAllResult] = Future()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = engine.run()
            if durations is not None:
                durations.record(result)
            future.set_result(result)
        except BaseException as error:  # noqa: BLE001 - raised where the run was asked for
            future.set_exception(error)

    try:
        threading.Thread(target=work, name="core-infra-runner", daemon=True).start()
        return future.result()
    except BaseException as error:
        if future.cancel():
            raise  # it had not begun, and will not
        engine.interrupt()
        failure = future.exception()
        if failure is None and isinstance(error, KeyboardInterrupt):
            raise RunInterruptedError(future.result()) from error
        raise
