"""Writes intents and results to the journal; results on a thread, while the next actions run."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from core_infra.jobrunner._journal.entry import Entry, Phase
from core_infra.jobrunner._signal import ActionResult
from core_infra.jobrunner._threads import DaemonThreads, NotStartedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.jobrunner._action_pool import Inbox
    from core_infra.jobrunner._handler_calls import HandlerCall, Outcome
    from core_infra.jobrunner._interfaces import Job
    from core_infra.jobrunner._journal.index import Index
    from core_infra.jobrunner._poller_config import PollerConfig


class Record(NamedTuple):
    """What is to be written about a call that has ended.

    Attributes:
        call: the call.
        entry: the line of the journal.
        result: what the signal's source and the bus receive; None if they receive nothing.
    """

    call: HandlerCall
    entry: Entry
    result: ActionResult | None


class ResultWriter:
    """Collects records while the disk is busy, and writes them together.

    Not thread-safe: only the poller's thread uses it.

    Args:
        config: has the journal and the clock.
        index: is updated with what was written.
        inbox: functions for the poller's thread to call.

    Attributes:
        written: records that are on the disk, or that are not, with the error; for the owner to
            take out.
    """

    def __init__(self, config: PollerConfig, index: Index, inbox: Inbox) -> None:
        self.written: deque[tuple[Sequence[Record], BaseException | None]] = deque()
        self._journal = config.journal
        self._clock = config.clock
        self._bodies = config.journal_bodies
        self._index = index
        self._inbox = inbox
        self._thread = DaemonThreads("core-infra-recorder")
        self._waiting: list[Record] = []
        self._writing: list[Record] = []
        self._is_busy = False

    @property
    def idle(self) -> bool:
        """All records are on the disk or have failed to get there, and were taken out."""
        return not (self._is_busy or self._waiting or self.written)

    @property
    def unwritten(self) -> set[str]:
        """The ids of actions whose outcome is not on the disk yet, as far as is known here."""
        return {record.entry.id for record in [*self._waiting, *self._writing]}

    def write_intents(self, jobs: Sequence[Job]) -> None:
        """Write that jobs are about to start; on the disk when this returns.

        Raises:
            CoreInfraError: some of it is not.
        """
        ts = self._clock.now()
        self._write(
            [
                Entry.of(
                    job.signal,
                    Phase.INTENT,
                    job.action,
                    ts=ts,
                    cycle=job.cycle,
                    id=job.id,
                    attempt=job.attempt,
                    signal=job.signal.to_record(bodies=self._bodies),
                )
                for job in jobs
            ]
        )

    def add(self, call: HandlerCall, phase: Phase, outcome: Outcome) -> None:
        """Write the outcome of a call, as soon as the disk is free."""
        job = call.job
        result = ActionResult.of(
            job.signal,
            job.action,
            success=outcome.success,
            error=outcome.error,
            ts=self._clock.now(),
            duration_ms=round(outcome.duration * 1000),
            cycle=job.cycle,
        )
        entry = Entry.of_result(job.signal, result, phase=phase, id=job.id, attempt=job.attempt)
        has_result = phase in {Phase.RESULT, Phase.UNKNOWN, Phase.GIVEN_UP}
        self._waiting.append(Record(call, entry, result if has_result else None))
        self._start()

    def close(self) -> None:
        """Let its thread end."""
        self._thread.close()

    def _write(self, entries: Sequence[Entry]) -> None:
        self._index.apply(entries, self._journal.write(entries))

    def _start(self) -> None:
        if self._is_busy or not self._waiting:
            return
        self._is_busy = True
        self._writing = records = self._waiting
        self._waiting = []
        self._thread.call(
            lambda error: self._inbox.put(partial(self._done, records, error)),
            self._write,
            [record.entry for record in records],
        )

    def _done(self, records: Sequence[Record], error: BaseException | None) -> None:
        if isinstance(error, NotStartedError):  # no thread: write here, so that nothing is lost
            error = self._written_here(records)
        self._is_busy = False
        self._writing = []
        self._start()
        self.written.append((records, error))

    def _written_here(self, records: Sequence[Record]) -> BaseException | None:
        try:
            self._write([record.entry for record in records])
        except Exception as error:  # noqa: BLE001 - handled like an error of the thread
            return error
        return None
