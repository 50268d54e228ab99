"""Signals that are given in advance: for tests, and to try handlers on past signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from core_infra.jobrunner._signal import ActionResult, PipelineSignal


class RecordedSource:
    """A source with fixed signals.

    Args:
        signals: what each poll returns, until it is changed.
        name: the name of the source.

    Attributes:
        signals: the same; assign to change it.
        reports: the results that were reported, in order.
        error: if not None, polls raise it.
    """

    def __init__(self, signals: Iterable[PipelineSignal] = (), *, name: str = "recorded") -> None:
        self.signals: Sequence[PipelineSignal] = list(signals)
        self.name = name
        self.reports: list[ActionResult] = []
        self.error: Exception | None = None

    def poll(self) -> Sequence[PipelineSignal]:
        """Return the signals, or raise the error."""
        if self.error is not None:
            raise self.error
        return list(self.signals)

    def report(self, result: ActionResult) -> None:
        """Append a result to ``reports``."""
        self.reports.append(result)
