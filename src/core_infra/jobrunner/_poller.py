"""The poller: runs one cycle after another until it is stopped."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Self, TypeVar

from core_infra.errors import AlreadyExistsError, CoreInfraError, WrongStateError
from core_infra.jobrunner._cycle import CycleRunner
from core_infra.jobrunner._cycle_state import Cycle
from core_infra.jobrunner._events import ActionCycleEnded, publish
from core_infra.jobrunner._leadership import NotLeaderError
from core_infra.jobrunner._logging import describe_error
from core_infra.jobrunner._validation import check_handler_names, checked_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from core_infra.jobrunner._cycle_state import CycleReport
    from core_infra.jobrunner._interfaces import JobHandler, JobSource
    from core_infra.jobrunner._poller_config import PollerConfig

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_CLOSED = "it was closed"
_LATE = 60.0
"""Seconds that a loop may be late before it counts as standing still."""
_JITTER = 0.1
"""The part of the interval by which a pause may be longer."""
_PROMPT = 5
"""How many webhooks are followed at once in one interval; later ones are gathered."""
_GATHER = 10.0
"""Seconds for which webhooks are gathered, so that a busy repository does not use up its limit."""
_PATIENCE_MIN = 0.1
"""Seconds: with a shorter interval, polls beside a running action would keep a processor busy."""


class Poller:
    """Polls its sources, and lets the first handler that matches a signal act on it.

    Each action is recorded before it starts and when it has ended. It is performed once for each
    state that its handler looked at, even if the poller is killed in between and started again.
    A source or handler that fails does not stop the others. If several pollers share a journal,
    one acts and the others stand by.

    Args:
        config: its parts and limits.

    Attributes:
        config: the same.
        dry_run: whether the next cycle only lists what it would do.

    Raises:
        AlreadyExistsError: two sources or two handlers have one name.
        InvalidError: one of them is not a source or handler, or ``dry_run_handlers`` has an unknown
            name.
    """

    def __init__(self, config: PollerConfig) -> None:
        self.config = config
        self.dry_run = config.dry_run
        self._sources: dict[str, JobSource] = {}
        self._handlers: dict[str, JobHandler] = {}
        for source in config.sources:
            self.add_source(source)
        for handler in config.handlers:
            self.add_handler(handler)
        check_handler_names(config.dry_run_handlers, self._handlers)
        self._cycle = 0
        self._stop = threading.Event()
        self._one_cycle = threading.Lock()
        self._closed_by = ""
        """Why it can no longer be used; empty while it can."""
        self._nudge = threading.Event()
        self._nudged: set[str] = set()
        self._runs = False
        self._runner = CycleRunner(config, self._stop, self._nudge)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def cycle(self) -> int:
        """The number of the last cycle that was started; 0 before the first one."""
        return self._cycle

    def add_source(self, source: JobSource) -> None:
        """Add a source, from the next cycle on.

        Raises:
            AlreadyExistsError: there is a source of this name.
            InvalidError: it is not a source, or its name cannot be used.
        """
        name = checked_name(source, "source", "poll", "report")
        self._sources = _with(self._sources, "source", name, source)

    def add_handler(self, handler: JobHandler) -> None:
        """Add a handler behind the others, from the next cycle on.

        Raises:
            AlreadyExistsError: there is a handler of this name.
            InvalidError: it is not a handler, or its name cannot be used.
        """
        name = checked_name(handler, "handler", "match", "execute")
        self._handlers = _with(self._handlers, "handler", name, handler)

    def run(self) -> None:
        """Run one cycle at once and one after every interval, until stopped.

        Errors of a cycle are logged, and the next one is run. Actions that take longer than the
        interval continue beside the next cycles.

        Raises:
            WrongStateError: it is closed, or was interrupted.
            Exception: a cycle was interrupted by it; no other cycle can follow.
        """
        self._check_open()
        self._runs = True
        # While actions run, the interval has passed already when a cycle returns.
        patience = max(self.config.poll_interval, _PATIENCE_MIN)
        while not self._stop.is_set():
            try:
                self._run_cycle(patience)
                if self._runner.is_busy:
                    continue
            except NotLeaderError:
                _LOG.info("standing by: another poller acts on %s", self.config.journal.base_dir)
            except Exception as error:
                if self._closed_by == _CLOSED:  # by another thread
                    return
                if self._closed_by:
                    raise
                if isinstance(error, CoreInfraError):
                    _LOG.error("cycle %d: %s", self._cycle, describe_error(error))
                else:
                    _LOG.exception("cycle %d", self._cycle)
            self._pause(patience)
        with self._one_cycle:
            self._finish()

    def poll_now(self, repo: str) -> int:
        """Poll the sources of a repository before their time, with a fresh look; on any thread.

        Args:
            repo: ``owner/name``: the end of the sources' names, or of what comes before a label.

        Returns:
            How many sources that are.
        """
        wanted = repo.lower()
        names = {name for name in self._sources if wanted in name.lower().split(":")}
        for name in names:
            refresh = getattr(self._sources[name], "refresh", None)
            if refresh is not None:
                refresh()
        if names:
            self._nudged |= names
            self._nudge.set()
            self._runner.wake()
        return len(names)

    @property
    def leads(self) -> bool:
        """Whether this is the poller that acts on the journal."""
        return self._runner.leads

    def problems(self) -> list[str]:
        """What a new start would mend: a loop that stands still, sources that hang; any thread."""
        found = [f"source {name} hangs" for name in self._runner.hanging]
        config = self.config
        pause = config.poll_interval * (1 + _JITTER)
        limit = pause + config.poll_timeout + config.job_timeout + _LATE
        if self._runs and time.monotonic() - self._runner.turned > limit:
            found.append(f"the loop has stood still for more than {limit:g} s")
        return found

    def _pause(self, patience: float) -> None:
        """Wait for the interval; meanwhile poll the sources that are asked for."""
        # Bots that were started together must not ask their forge at the same moments for ever.
        left = self.config.poll_interval * random.uniform(1, 1 + _JITTER)  # noqa: S311 - no secret
        until = time.monotonic() + left
        clock, times = self.config.clock, 0
        # However many webhooks come, the sources that nobody asks for have their turn.
        while left > 0 and not self._stop.is_set() and clock.wait(self._nudge, left):
            if (times := times + 1) > _PROMPT:
                clock.wait(self._stop, min(_GATHER, max(until - time.monotonic(), 0.0)))
            self._nudge.clear()
            names, self._nudged = self._nudged, set()
            try:
                self._run_cycle(patience, names)
            except CoreInfraError as error:
                _LOG.error("cycle %d: %s", self._cycle, describe_error(error))
                if self._closed_by:
                    return
            left = until - time.monotonic()

    def run_once(self) -> CycleReport:
        """Run one cycle.

        If an exception such as Ctrl-C interrupts it, actions may still run: the poller closes, and
        the next one looks up whether they were done.

        Raises:
            WrongStateError: it is closed, or was interrupted.
            NotLeaderError: another poller acts on this journal; not raised by a dry run.
            StorageError: something could not be written to the journal. Actions whose intent could
                not be written were not started; all others were done.
        """
        return self._run_cycle(float("inf"))

    def _run_cycle(self, patience: float, only: Collection[str] | None = None) -> CycleReport:
        with self._one_cycle:
            self._check_open()
            start = time.monotonic()
            self._cycle += 1
            cycle = Cycle(self._cycle, self._handlers, dry_run=self.dry_run, patience=patience)
            sources = {
                name: one for name, one in self._sources.items() if only is None or name in only
            }
            self._runner.catch_up(dry_run=cycle.dry_run)
            try:
                self._runner.run(cycle, sources.values())
            except BaseException as error:
                self._shut(f"it was interrupted in cycle {self._cycle}: {describe_error(error)}")
                raise
            duration = time.monotonic() - start
            publish(self.config.bus, ActionCycleEnded(self._cycle, duration))
            _LOG.info(
                "cycle %d: %d signals, %d actions, %d failed",
                self._cycle,
                cycle.report.signals,
                len(cycle.report.results),
                sum(not result.success for result in cycle.report.results),
                extra={"facts": {"cycle": self._cycle, "duration": round(duration, 3)}},
            )
            if cycle.errors:
                raise cycle.errors[0]
            return cycle.report

    def stop(self) -> None:
        """End the current cycle, and run no more after it; from any thread.

        Actions that run have the grace period to end. Those that have not ended by then have their
        intent on the disk, and the next poller looks them up.
        """
        self._stop.set()
        self._nudge.set()
        self._runner.wake()

    def close(self) -> None:
        """Stop, and release the journal to other pollers once no action of this one runs."""
        self.stop()
        with self._one_cycle:
            self._finish()
            self._shut(_CLOSED)

    def _finish(self) -> None:
        """Record the outcomes of actions that the last cycle left running."""
        if not self._closed_by and self._runner.is_busy:
            cycle = Cycle(self._cycle, self._handlers, dry_run=self.dry_run)
            try:
                self._runner.finish(cycle)
            except BaseException as error:
                self._shut(f"it was interrupted while it ended: {describe_error(error)}")
                raise
            for problem in cycle.errors:
                _LOG.error("%s", describe_error(problem))

    def _shut(self, why: str) -> None:
        if not self._closed_by:
            self._closed_by = why
            self._stop.set()
            self._runner.close()

    def _check_open(self) -> None:
        if self._closed_by:
            raise WrongStateError(
                "cannot run another cycle",
                why=self._closed_by,
                todo="Make a new Poller.",
                needed="open",
                found="closed",
            )


def _with(known: dict[str, T], what: str, name: str, new: T) -> dict[str, T]:
    if name in known:
        raise AlreadyExistsError(
            f"cannot add the {what} {name!r}",
            why="there is already one of this name",
            todo="Give it another name: journals and metrics tell them apart by it.",
        )
    # A new dict: the current cycle goes on with the one that it started with.
    return {**known, name: new}
