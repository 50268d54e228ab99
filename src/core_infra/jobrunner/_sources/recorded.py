"""Signals that are there already: for tests, and to try handlers on what has been."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from core_infra.jobrunner._signal import ActionResult, PipelineSignal


class RecordedSource:
    """A source that gives what it was given.

    Args:
        signals: what each poll gives, until it is changed.
        name: of the source.

    Attributes:
        signals: the same, to be changed.
        reports: what it was told, in order.
        error: raised by the next polls, if it is not None.
    """

    def __init__(self, signals: Iterable[PipelineSignal] = (), *, name: str = "recorded") -> None:
        self.signals: Sequence[PipelineSignal] = list(signals)
        self.name = name
        self.reports: list[ActionResult] = []
        self.error: Exception | None = None

    def poll(self) -> Sequence[PipelineSignal]:
        """Give the signals, or raise the error."""
        if self.error is not None:
            raise self.error
        return list(self.signals)

    def report(self, result: ActionResult) -> None:
        """Remember what was reported."""
        self.reports.append(result)
