"""Starts only what is not up to date."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError
from core_infra.process.runner.attempt import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.process.loop import Loop
    from core_infra.process.runner.freshness import Basis, Freshness
    from core_infra.process.runner.launcher import Launcher, Report, Wrote
    from core_infra.process.runner.spec import RunSpec

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
