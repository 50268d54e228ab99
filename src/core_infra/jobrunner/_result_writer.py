"""Writes results down while the next actions run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from core_infra.jobrunner._journal.entry import Entry, Phase
from core_infra.jobrunner._signal import ActionResult
from core_infra.jobrunner._threads import DaemonThreads, NotBegunError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.jobrunner._action_pool import Inbox
    from core_infra.jobrunner._config import PollerConfig
    from core_infra.jobrunner._handler_calls import Outcome, Task
    from core_infra.jobrunner._interfaces import Job
    from core_infra.jobrunner._journal.index import Index


class Record(NamedTuple):
    """What is to be written of a task that has ended.

    Attributes:
        task: the task.
        entry: the line.
        result: what the handler's source and the bus are told; None if they are not.
    """

    task: Task
    entry: Entry
    result: ActionResult | None


class Recorder:
    """Collects records while the disk is busy, and writes them in one go.

    Args:
        config: has the journal that they are written to, and the time.
        index: what is told of them.
        inbox: what the poller's thread calls.
        written: called with records that are on the disk, or with the error if they are not.
    """

    def __init__(
        self,
        config: PollerConfig,
        index: Index,
        inbox: Inbox,
        written: Callable[[Sequence[Record], BaseException | None], None],
    ) -> None:
        self._journal = config.journal
        self._clock = config.clock
        self._index = index
        self._inbox = inbox
        self._written = written
        self._thread = DaemonThreads("core-infra-recorder")
        self._waiting: list[Record] = []
        self._busy = False

    @property
    def idle(self) -> bool:
        """All that was given to it is on the disk, or has failed to get there."""
        return not (self._busy or self._waiting)

    def intend(self, jobs: Sequence[Job]) -> None:
        """Write that jobs are about to begin; on the disk when this returns.

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
                    signal=job.signal.to_dict(),
                )
                for job in jobs
            ]
        )

    def record(self, task: Task, phase: Phase, outcome: Outcome) -> None:
        """Have written what came of a task."""
        job = task.job
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
        ended = phase in {Phase.RESULT, Phase.UNKNOWN}
        self._waiting.append(Record(task, entry, result if ended else None))
        self._next()

    def close(self) -> None:
        """Let its thread end."""
        self._thread.close()

    def _write(self, entries: Sequence[Entry]) -> None:
        self._index.apply(entries, self._journal.write(entries))

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        records, self._waiting = self._waiting, []
        self._thread.call(
            lambda error: self._inbox.put(partial(self._done, records, error)),
            self._write,
            [record.entry for record in records],
        )

    def _done(self, records: Sequence[Record], error: BaseException | None) -> None:
        if isinstance(error, NotBegunError):  # then here: nothing is to be lost
            error = self._tried(records)
        self._busy = False
        self._next()
        self._written(records, error)

    def _tried(self, records: Sequence[Record]) -> BaseException | None:
        try:
            self._write([record.entry for record in records])
        except Exception as error:  # noqa: BLE001 - told as if it came from the thread
            return error
        return None
