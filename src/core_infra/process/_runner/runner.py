"""The runner: runs specs by their dependencies, one after another, or all at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from core_infra._host import processors
from core_infra.errors import InvalidError
from core_infra.framework._handlers import is_async
from core_infra.process._runner.backends import ExecutorBackend, ServiceBackend
from core_infra.process._runner.cancellation import Cancellation
from core_infra.process._runner.durations import Durations
from core_infra.process._runner.engine import Engine, Stop
from core_infra.process._runner.events import RunStarted
from core_infra.process._runner.freshness import Freshness
from core_infra.process._runner.freshness_backend import FreshnessBackend
from core_infra.process._runner.graph import Graph, check_apart
from core_infra.process._runner.results import RunAllTimeoutError, RunInterruptedError
from core_infra.process._runner.schedule import Schedule, make_plan
from core_infra.process._runner.spec import RunSpec
from core_infra.process._service import Service
from core_infra.process._values import check_seconds, is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from core_infra._eventloop.loop import Loop
    from core_infra.process._runner.backends import Backend, OnLines, OnOutcome
    from core_infra.process._runner.events import RunEvent
    from core_infra.process._runner.results import RunAllResult
    from core_infra.process._runner.schedule import RunPlan


_MOST_CTRL_C = 4
"""To stop what runs, to kill it, and the same of what cleans up; after one more we do not wait."""


class Runner:
    """Runs specs as processes of a service.

    Args:
        service: starts the commands.
        workers: how many specs run at once; by default as many as this process may use CPUs.
        pools: the number of places of each pool that specs name.
        keep_going: after a failure, go on with all specs that do not wait for it; else start
            nothing more.
        durations: stores how long specs take, so that the next run starts the longest path
            first.
        listener: called with each event (``RunStarted``, …); a display, or a bus
            (``core.action``).
        live: the listener also gets lines as commands write them (SpecWrote); not from an
            executor.
        freshness: stores from what specs with inputs or outputs were run, and skips those that are
            up to date.

    Raises:
        InvalidError: workers is less than 1, or an argument is of another type.
    """

    def __init__(
        self,
        service: Service,
        *,
        workers: int | None = None,
        pools: Mapping[str, int] | None = None,
        keep_going: bool = True,
        durations: Durations | None = None,
        listener: Callable[[RunEvent], object] | None = None,
        live: bool = False,
        freshness: Freshness | None = None,
    ) -> None:
        if workers is not None and not _is_count(workers):
            raise InvalidError(f"a run cannot have {workers!r} workers", todo="Give at least 1.")
        if not isinstance(service, Service):
            raise InvalidError(f"service is {service!r}", why="it must be a Service")
        for name, value, kind in (
            ("durations", durations, Durations),
            ("freshness", freshness, Freshness),
            ("pools", pools, Mapping),
        ):
            if value is not None and not isinstance(value, kind):
                what = "dict" if kind is Mapping else kind.__name__
                raise InvalidError(f"{name} is {value!r}", why=f"it must be a {what}")
        for pool, places in (pools or {}).items():
            if not _is_name(pool) or not _is_count(places):
                raise InvalidError(
                    f"the pool {pool!r} cannot have {places!r} places", todo="Give at least 1."
                )
        call: Any = listener
        if call is not None and (not callable(call) or is_async(call)):
            raise InvalidError(
                f"listener is {call!r}", why="it must be a function, and not an async one"
            )
        self._service = service
        self._workers = workers
        self._pools = dict(pools or {})
        self._keep_going = keep_going
        self._durations = durations
        self._live = live
        self._freshness = freshness
        self._listener = listener or (lambda _event: None)

    def run_all(
        self,
        specs: Sequence[RunSpec],
        *,
        executor: Executor | None = None,
        timeout: float | None = None,
        cancel: Cancellation | None = None,
        cleanup: Sequence[RunSpec] = (),
    ) -> RunAllResult:
        """Run specs by their dependencies: each starts as soon as those it waits for have ended.

        Specs that wait for a failed one are skipped, unless that one has ``allow_failure``.

        Args:
            specs: in any order.
            executor: runs them instead of the service: any ``concurrent.futures.Executor``, also
                one of a cluster. It decides how many run at once, unless ``workers`` was given.
                Commands need their programs and directories where they run; a call must be
                picklable.
            timeout: seconds for all of *specs* together. Then all that runs gets its stop signal,
                and is killed after its ``grace``; a call that has not returned by then is
                abandoned.
            cancel: stops the run in the same way when its ``cancel()`` is called, or was before.
                The result is returned, with ``interrupted``.
            cleanup: specs that run when all of *specs* have ended, whatever their results, also
                after a timeout, a cancellation or Ctrl-C. A second Ctrl-C stops them. Their
                results come last.

        Raises:
            InvalidError: the timeout is not above 0, *cancel* is not a Cancellation, or *executor*
                is not an Executor.
            InvalidGraphError: the specs cannot be run together; nothing has been started.
            RunAllTimeoutError: the time was over; it has the result.
            RunInterruptedError: a KeyboardInterrupt has stopped the run; it has the result.
        """
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise InvalidError(f"executor is {executor!r}", why="it must be an Executor")
        graphs = [self._graph(_listed("specs", specs), None)]
        if cleanup:
            graphs.append(self._graph(_listed("cleanup", cleanup), None))
            check_apart(*graphs)
        return self._run(graphs, executor, timeout, cancel)

    def run_sequential(
        self,
        specs: Sequence[RunSpec],
        *,
        timeout: float | None = None,
        cancel: Cancellation | None = None,
    ) -> RunAllResult:
        """Run specs one after another in the given order; their ``after`` is ignored.

        After a failure (unless that spec has ``allow_failure``) the rest is skipped.

        Args:
            specs: in their order.
            timeout: as for :meth:`run_all`.
            cancel: as for :meth:`run_all`.

        Raises:
            CoreInfraError: as :meth:`run_all`.
        """
        specs = _listed("specs", specs)
        chain = [[], *([before.name] for before, _ in pairwise(specs))]
        return self._run([self._graph(specs, chain[: len(specs)])], None, timeout, cancel)

    def run_parallel(
        self,
        specs: Sequence[RunSpec],
        *,
        timeout: float | None = None,
        cancel: Cancellation | None = None,
    ) -> RunAllResult:
        """Run specs at once, as many as there are workers; their ``after`` is ignored.

        Args:
            specs: in any order.
            timeout: as for :meth:`run_all`.
            cancel: as for :meth:`run_all`.

        Raises:
            CoreInfraError: as :meth:`run_all`.
        """
        specs = _listed("specs", specs)
        return self._run([self._graph(specs, [[]] * len(specs))], None, timeout, cancel)

    def plan(self, specs: Sequence[RunSpec]) -> RunPlan:
        """Return what :meth:`run_all` would do, without doing it.

        Raises:
            InvalidGraphError: the specs cannot be run together.
        """
        graph = self._graph(_listed("specs", specs), None)
        durations = self._known_durations()
        return make_plan(
            graph,
            self._schedule(
                graph, self._workers or processors(), durations, keep_going=self._keep_going
            ),
            durations,
        )

    def _graph(self, specs: Sequence[RunSpec], after: Sequence[Sequence[str]] | None) -> Graph:
        return Graph(specs, self._pools, after)

    def _known_durations(self) -> dict[str, float]:
        return self._durations.load() if self._durations else {}

    def _schedule(
        self,
        graph: Graph,
        workers: int | None,
        durations: Mapping[str, float],
        *,
        keep_going: bool,
    ) -> Schedule:
        return Schedule(
            graph,
            workers=workers,
            pools=self._pools,
            durations=durations,
            keep_going=keep_going,
        )

    def _run(
        self,
        graphs: Sequence[Graph],
        executor: Executor | None,
        timeout: float | None,
        cancel: Cancellation | None,
    ) -> RunAllResult:
        _check_ends(timeout, cancel)
        durations = self._known_durations()
        workers = self._workers
        make_backend: Callable[[OnOutcome, Loop, OnLines | None], Backend]
        if executor is None:
            workers = workers or processors()
            make_backend = partial(ServiceBackend, self._service)
        else:
            make_backend = partial(ExecutorBackend, executor)
        first, *later = graphs
        phases = [
            (first, self._schedule(first, workers, durations, keep_going=self._keep_going)),
            *(
                (graph, self._schedule(graph, workers, durations, keep_going=True))
                for graph in later
            ),
        ]
        specs = tuple(spec for graph in graphs for spec in graph.specs.values())
        if self._freshness is not None and any(spec.inputs or spec.outputs for spec in specs):
            make_backend = partial(FreshnessBackend, make_backend, self._freshness)
        started = RunStarted(specs, workers, durations)
        engine = Engine(phases, make_backend, self._listener, started, timeout, live=self._live)
        if cancel is None:
            result = _on_a_thread(engine, self._durations)
        else:
            with cancel.calls(lambda: engine.stop(Stop.CANCEL)):
                result = _on_a_thread(engine, self._durations)
        if engine.timed_out:
            raise RunAllTimeoutError(
                f"the run did not end within {timeout:g} s and was stopped",
                timeout=timeout,
                result=result,
            )
        return result


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return is_whole(value) and value >= 1


def _listed(name: str, specs: Any) -> list[RunSpec]:
    """The specs as a list; raises InvalidError if they are something else."""
    listed = list(specs) if isinstance(specs, Iterable) and not isinstance(specs, str) else [specs]
    for spec in listed:
        if not isinstance(spec, RunSpec):
            raise InvalidError(f"{name} has {spec!r}", why="it must be a list of RunSpec")
    return listed


def _check_ends(timeout: Any, cancel: Any) -> None:
    check_seconds("timeout", timeout)
    if timeout is not None and timeout <= 0:
        raise InvalidError(f"timeout is {timeout!r}", why="it must be above 0")
    if cancel is not None and not isinstance(cancel, Cancellation):
        raise InvalidError(f"cancel is {cancel!r}", todo="Give a Cancellation.")


def _interrupt(engine: Engine, future: Future[RunAllResult]) -> BaseException | None:
    """Stop a run by Ctrl-C; returns its exception. More Ctrl-C kill what runs, then the cleanup."""
    for _ in range(_MOST_CTRL_C):
        engine.stop(Stop.CTRL_C)
        with contextlib.suppress(KeyboardInterrupt):
            return future.exception()
    engine.stop(Stop.CTRL_C)
    return future.exception()


def _on_a_thread(engine: Engine, durations: Durations | None) -> RunAllResult:
    # The exception of a signal may arrive anywhere on the main thread, so that one only waits. The
    # engine's thread is asked to stop, and never loses a process that it is just starting.
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
            raise  # the thread has not begun, and does nothing then
        failure = _interrupt(engine, future)
        if failure is None and isinstance(error, KeyboardInterrupt):
            raise RunInterruptedError(future.result()) from error
        raise
