"""What other handlers would have done about the signals of a journal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import InvalidError
from core_infra.jobrunner._journal.entry import Entry, Phase
from core_infra.jobrunner._matching import matches
from core_infra.jobrunner._signal import PipelineSignal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core_infra.jobrunner._interfaces import JobHandler

_LOG = logging.getLogger(__name__)


class Decision(NamedTuple):
    """One recorded signal, and the handler that would act on it now.

    Attributes:
        entry: the intent that has the signal.
        signal: the signal.
        now: the name of the handler that matches it now; empty if none does.
    """

    entry: Entry
    signal: PipelineSignal
    now: str

    @property
    def differs(self) -> bool:
        """Whether another handler acted on it."""
        return self.now != self.entry.action


def replay(entries: Iterable[Entry], handlers: Sequence[JobHandler]) -> Iterator[Decision]:
    """Match handlers against the signals of a journal; nothing is executed.

    A journal has only the signals that were acted on. Each action is matched once. A signal that
    cannot be read, because a later version has written it, is logged and skipped.
    """
    seen: set[str] = set()
    for entry in entries:
        if entry.phase is not Phase.INTENT or entry.id in seen:
            continue
        seen.add(entry.id)
        try:
            signal = PipelineSignal.from_dict(
                entry.signal, where=f"the signal of action {entry.id}"
            )
        except InvalidError as error:
            _LOG.warning("%s", error)
            continue
        found = next(matches([signal], handlers), None)
        yield Decision(entry, signal, found.handler.name if found else "")
