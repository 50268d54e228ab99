"""The poller: goes through cycles, one after another, until it is stopped."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Self, TypeVar

from core_infra.errors import AlreadyExistsError, CoreInfraError, WrongStateError
from core_infra.jobrunner._cycle import Engine, Round
from core_infra.jobrunner._events import ActionCycleEnded
from core_infra.jobrunner._handler_calls import told
from core_infra.jobrunner._leadership import NotLeaderError
from core_infra.jobrunner._validation import check_known, name_of

if TYPE_CHECKING:
    from core_infra.jobrunner._config import CycleReport, PollerConfig
    from core_infra.jobrunner._interfaces import JobHandler, JobSource

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_CLOSED = "it was closed"


class Poller:
    """Asks its sources, and lets the first handler that matches a signal act on it.

    Each action is written down before it begins and when it has ended. It is taken once for each
    state that its handler looked at, also if the poller is killed in between and started again.
    One failing source or handler never stops the others. Of several pollers on one journal, one
    acts; the others stand by.

    Args:
        config: what it is made of.

    Attributes:
        config: the same.
        dry_run: whether the next cycle only tells what it would do.

    Raises:
        AlreadyExistsError: two sources or two handlers have one name.
        InvalidError: one of them is none, or ``dry_run_handlers`` names one that is not there.
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
        check_known(config.dry_run_handlers, self._handlers)
        self._cycle = 0
        self._stop = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._over = ""
        """Why it cannot be used any more."""
        self._engine = Engine(config, self._stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def cycle(self) -> int:
        """The number of the last cycle that was begun; 0 before the first one."""
        return self._cycle

    def add_source(self, source: JobSource) -> None:
        """Ask one more source, from the next cycle on.

        Raises:
            AlreadyExistsError: there is one of this name.
            InvalidError: it is no source, or its name is none.
        """
        name = name_of(source, "source", "poll", "report")
        self._sources = _with(self._sources, "source", name, source)

    def add_handler(self, handler: JobHandler) -> None:
        """Ask one more handler, after the others, from the next cycle on.

        Raises:
            AlreadyExistsError: there is one of this name.
            InvalidError: it is no handler, or its name is none.
        """
        name = name_of(handler, "handler", "match", "execute")
        self._handlers = _with(self._handlers, "handler", name, handler)

    def run(self) -> None:
        """Go through one cycle at once and one after every interval, until stopped.

        What goes wrong in a cycle is logged, and the next one is begun.

        Raises:
            WrongStateError: it is closed, or was interrupted.
            Exception: what interrupted a cycle, which none can follow.
        """
        self._check_open()
        while not self._stop.is_set():
            try:
                self.run_once()
            except NotLeaderError:
                _LOG.info("standing by: another poller acts on %s", self.config.journal.base_dir)
            except Exception as error:
                if self._over == _CLOSED:  # by another thread
                    return
                if self._over:
                    raise
                if isinstance(error, CoreInfraError):
                    _LOG.error("cycle %d: %s", self._cycle, told(error))
                else:
                    _LOG.exception("cycle %d", self._cycle)
            self.config.clock.wait(self._stop, self.config.poll_interval)

    def run_once(self) -> CycleReport:
        """Go through one cycle.

        Interrupted by an exception, as by Ctrl-C, it leaves actions running: the poller closes
        then, and another one looks up what came of them.

        Raises:
            WrongStateError: it is closed, or was interrupted.
            NotLeaderError: another poller acts on this journal. A dry run does not mind.
            StorageError: something could not be written down. What was not written before it was
                to begin was not begun; all else was done.
        """
        with self._one_at_a_time:
            self._check_open()
            start = time.monotonic()
            self._cycle += 1
            now = Round(self._cycle, self._handlers, dry_run=self.dry_run)
            sources = self._sources
            self._engine.catch_up(dry_run=now.dry_run)
            try:
                self._engine.go(now, sources.values())
            except BaseException as error:
                self._shut(f"it was interrupted in cycle {self._cycle}: {told(error)}")
                raise
            duration = time.monotonic() - start
            self._engine.tell(ActionCycleEnded(self._cycle, duration))
            _LOG.info(
                "cycle %d: %d signals, %d actions, %d failed",
                self._cycle,
                now.report.signals,
                len(now.report.results),
                sum(not result.success for result in now.report.results),
                extra={"facts": {"cycle": self._cycle, "duration": round(duration, 3)}},
            )
            if now.errors:
                raise now.errors[0]
            return now.report

    def stop(self) -> None:
        """Have the cycle that is under way come to its end, and none begun after it.

        Actions that run are given the grace period to end. What has not ended then has its intent
        on the disk, and is looked up by the next start. May be called on any thread.
        """
        self._stop.set()
        self._engine.wake()

    def close(self) -> None:
        """Stop, and let another poller have the journal once nothing of this one runs."""
        self.stop()
        with self._one_at_a_time:
            self._shut(_CLOSED)

    def _shut(self, why: str) -> None:
        if not self._over:
            self._over = why
            self._stop.set()
            self._engine.close()

    def _check_open(self) -> None:
        if self._over:
            raise WrongStateError(
                "cannot go through another cycle",
                why=self._over,
                todo="Make a new Poller.",
                needed="open",
                found="closed",
            )


def _with(known: dict[str, T], what: str, name: str, new: T) -> dict[str, T]:
    if name in known:
        raise AlreadyExistsError(
            f"cannot add the {what} {name!r}",
            why="there is one of this name",
            todo="Give it another name: journals and metrics tell them apart by it.",
        )
    # A new one, never a changed one: a cycle that is under way goes on with what it began with.
    return {**known, name: new}
