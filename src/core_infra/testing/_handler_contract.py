"""The contract of a handler of jobs, as tests to run on your own."""

from __future__ import annotations

import dataclasses
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core_infra.jobrunner._clock import FakeClock
from core_infra.jobrunner._handler_calls import act
from core_infra.jobrunner._interfaces import Job, as_reconciling, as_rehearsing, as_touching
from core_infra.jobrunner._journal.journal import Journal
from core_infra.jobrunner._poller import Poller
from core_infra.jobrunner._poller_config import PollerConfig
from core_infra.jobrunner._sources.recorded import RecordedSource
from core_infra.jobrunner._validation import checked_name

if TYPE_CHECKING:
    from core_infra.jobrunner._interfaces import JobHandler
    from core_infra.jobrunner._signal import PipelineSignal

_HOSTILE = "\0 \u202e\n$(id) `id` '\" ../../ <!-- --> é🚀" * 100
_START = datetime(2026, 1, 1, tzinfo=UTC)


class HandlerContract:
    """The contract of a handler: it decides by the signal alone, and survives a crash.

    Subclass it in a test module, and override the four methods. Each test gets a handler and a
    world of its own.
    """

    def make_handler(self) -> JobHandler:
        """Return the handler under test, on a new world. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must have make_handler()")

    def wanted(self) -> PipelineSignal:
        """Return a signal that it acts on. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must have wanted()")

    def unwanted(self) -> PipelineSignal:
        """Return a signal that it does not act on. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must have unwanted()")

    def performed(self) -> int:
        """Return how often the world of the last handler was changed. Override this."""
        raise NotImplementedError(f"{type(self).__name__} must have performed()")

    def test_it_can_be_added_to_a_poller(self) -> None:
        checked_name(self.make_handler(), "handler", "match", "execute")

    def test_it_decides_by_the_signal_and_in_the_same_way_each_time(self) -> None:
        handler = self.make_handler()
        for _ in range(3):
            _holds(handler.match(self.wanted()) is True, "it must match what is wanted")
        for _ in range(3):
            _holds(handler.match(self.unwanted()) is False, "it must not match what is not")
        _holds(self.performed() == 0, "match must change nothing")

    def test_no_text_of_a_stranger_makes_it_fail_to_match(self) -> None:
        handler = self.make_handler()
        for signal in (self.wanted(), self.unwanted()):
            hostile = dataclasses.replace(
                signal,
                issue_title=_HOSTILE,
                issue_body=_HOSTILE,
                pr_title=_HOSTILE,
                assignee=signal.assignee or "../x",
            )
            _holds(isinstance(handler.match(hostile), bool), "match must return a bool")

    def test_it_acts_once_for_each_state(self) -> None:
        handler = self.make_handler()
        source = RecordedSource([self.wanted(), self.unwanted()])
        with (
            tempfile.TemporaryDirectory() as base,
            Journal(base) as journal,
            Poller(PollerConfig([source], [handler], journal, clock=FakeClock())) as poller,
        ):
            results = [result for _ in range(3) for result in poller.run_once().results]
        _holds(len(results) == 1, f"there must be one action, not {len(results)}")
        _holds(results[0].success, f"it must succeed: {results[0].error}")
        _holds(self.performed() == 1, "it must act exactly once")

    def test_a_crash_after_the_action_repeats_nothing(self) -> None:
        handler = self.make_handler()
        if as_reconciling(handler) is None:
            return  # such an action is never tried again
        signal = self.wanted()
        _holds(not self._happened(handler, signal), "nothing has happened yet")
        _holds(act(handler, self._job(handler, signal)).success, "it must succeed")
        again = dataclasses.replace(self._job(handler, signal), attempt=2)
        _holds(act(handler, again).success, "the next attempt must succeed, too")
        _holds(self.performed() == 1, "the next attempt must change nothing")

    def test_a_rehearsal_lists_and_changes_nothing(self) -> None:
        handler = self.make_handler()
        rehearsing = as_rehearsing(handler)
        if rehearsing is not None:
            signal = self.wanted()
            steps = list(rehearsing.rehearse(signal, self._job(handler, signal)))
            _holds(all(isinstance(step, str) for step in steps), "steps must be strings")
            _holds(bool(steps), "what is wanted must have a step")
        _holds(self.performed() == 0, "a rehearsal must change nothing")

    def test_it_names_what_else_it_touches_by_numbers(self) -> None:
        touching = as_touching(self.make_handler())
        if touching is not None:
            numbers = touching.touches(self.wanted())
            _holds(all(isinstance(one, int) for one in numbers), "touches must return numbers")

    def _happened(self, handler: JobHandler, signal: PipelineSignal) -> bool:
        reconciling = as_reconciling(handler)
        job = self._job(handler, signal)
        return reconciling is not None and bool(reconciling.happened(signal, job))

    def _job(self, handler: JobHandler, signal: PipelineSignal) -> Job:
        return Job(
            id="0" * 32, action=handler.name, signal=signal, first_tried=_START, timeout=60.0
        )


def _holds(condition: bool, what: str) -> None:  # noqa: FBT001 - what must hold
    if not condition:
        raise AssertionError(what)
