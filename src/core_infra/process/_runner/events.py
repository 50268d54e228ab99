"""The events of a run: for displays, logs, or a bus (``listener=core.action``).

They come one after another, on a thread of the run: first RunStarted; for each spec SpecStarted
(again for each retry), SpecWrote if requested, and SpecFinished, or only SpecFinished if it is
skipped; at the end RunFinished, also if the run is interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.process._runner.results import RunAllResult, RunResult
    from core_infra.process._runner.spec import RunSpec


class RunStarted(NamedTuple):
    """The specs are checked, and nothing has started.

    Attributes:
        specs: what will run, in the given order.
        workers: how many run at once; None is as many as are ready.
        durations: the seconds that specs took before, as far as they are known.
    """

    specs: tuple[RunSpec, ...]
    workers: int | None
    durations: Mapping[str, float]


class SpecStarted(NamedTuple):
    """A spec starts.

    Attributes:
        spec: the spec.
        attempt: 1, or more for a retry.
        previous: the result of the attempt before, if this is a retry.
    """

    spec: RunSpec
    attempt: int
    previous: RunResult | None


class SpecWrote(NamedTuple):
    """A command has written lines; for runners with ``live``.

    Attributes:
        spec: the spec.
        lines: without their ends.
    """

    spec: RunSpec
    lines: tuple[str, ...]


class SpecFinished(NamedTuple):
    """A spec has ended for good, or is skipped.

    Attributes:
        result: its result.
    """

    result: RunResult


class RunFinished(NamedTuple):
    """Nothing runs any more.

    Attributes:
        result: the results of all specs.
    """

    result: RunAllResult


RunEvent = RunStarted | SpecStarted | SpecWrote | SpecFinished | RunFinished
"""Any event of a run."""
