"""Runs only the specs that are not up to date."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError
from core_infra.process._runner.attempt import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.loop import Loop
    from core_infra.process._runner.backends import Backend, OnLines, OnOutcome
    from core_infra.process._runner.freshness import Fingerprint, Freshness
    from core_infra.process._runner.spec import RunSpec

_READERS = 4
"""Threads that read the files of specs with inputs or outputs."""


class FreshnessBackend:
    """Another backend, for specs that are not up to date; the others are not run.

    Files are read on threads, while the loop serves programs.

    Args:
        make_backend: makes the other backend.
        freshness: finds out what is up to date.
        on_outcome: called with each outcome.
        loop: all methods are called on its thread.
        on_lines: called with lines as commands write them.
    """

    def __init__(
        self,
        make_backend: Callable[[OnOutcome, Loop, OnLines | None], Backend],
        freshness: Freshness,
        on_outcome: OnOutcome,
        loop: Loop,
        on_lines: OnLines | None,
    ) -> None:
        self._inner = make_backend(self._finish, loop, on_lines)
        self._freshness = freshness
        self._on_outcome = on_outcome
        self._loop = loop
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="core-infra-reader")
        self._begun: dict[str, tuple[RunSpec, Fingerprint]] = {}
        self._stopped = False

    def start(self, spec: RunSpec) -> None:
        """Start a spec, unless it is up to date."""
        if spec.inputs or spec.outputs:
            self._readers.submit(self._check, spec)
        else:
            self._inner.start(spec)

    def retry(self, spec: RunSpec) -> None:
        """Start it again, with the fingerprint of its first attempt."""
        self._inner.retry(spec)

    def stop(self, *, now: bool = False, await_calls: bool = True) -> None:
        """Stop what runs."""
        self._stopped = True
        self._inner.stop(now=now, await_calls=await_calls)

    def close(self) -> None:
        """End the threads."""
        self._readers.shutdown()
        self._inner.close()

    def _check(self, spec: RunSpec) -> None:
        try:
            fingerprint = self._freshness.begin(spec)
        except Exception as error:  # noqa: BLE001 - any error is the outcome of the spec
            self._on_outcome(spec.name, Outcome(0.0, error=error))
            return
        if fingerprint.fresh:
            self._on_outcome(spec.name, Outcome(0.0, cached=True))
            return
        self._begun[spec.name] = (spec, fingerprint)
        self._loop.post(lambda: self._start(spec))

    def _start(self, spec: RunSpec) -> None:
        if self._stopped:
            error = CoreInfraError(f"{spec.name!r} did not run", why="the run was interrupted")
            self._on_outcome(spec.name, Outcome(0.0, error=error))
        else:
            self._inner.start(spec)

    def _finish(self, name: str, outcome: Outcome) -> None:
        begun = self._begun.get(name)
        if begun is None or self._stopped or outcome.error or outcome.exit_code:
            self._on_outcome(name, outcome)
        else:
            self._readers.submit(self._record, *begun, outcome)

    def _record(self, spec: RunSpec, fingerprint: Fingerprint, outcome: Outcome) -> None:
        try:
            self._freshness.passed(spec, fingerprint)
        finally:
            self._on_outcome(spec.name, outcome)
