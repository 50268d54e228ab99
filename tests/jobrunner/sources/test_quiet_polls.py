"""What polls cost while nothing changes, and that no change is overlooked for that."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from core_infra.jobrunner import EpicSource, FakeClock, GitHub
from jobs.api_server import NOW
from jobs.github_server import GitHubServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner import PipelineSignal

REPOSITORIES = 30
QUARTER = 5000 / 4


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.add_issue(1, body="- [ ] #42\n- [ ] #43\n", labels=["epic"])
        server.add_issue(42)
        server.add_issue(43, assignees=["ann"])
        server.add_pull(50, body="closes #42", checks="PENDING")
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def forge(server: GitHubServer, clock: FakeClock) -> Iterator[GitHub]:
    with contextlib.closing(GitHub(None, server.url, clock=clock)) as forge:
        yield forge


def poll(source: EpicSource, clock: FakeClock) -> dict[int, PipelineSignal]:
    clock.advance(60)
    return {signal.child_number: signal for signal in source.poll()}


def test_an_hour_of_polls_is_one_request_each_and_within_a_quarter_of_the_limit(
    server: GitHubServer, forge: GitHub, clock: FakeClock
) -> None:
    source = EpicSource(forge, "acme", "widgets")
    poll(source, clock)
    before = dict(server.points)
    asked = []
    for _ in range(60):
        known = len(server.requests)
        poll(source, clock)
        asked.append(len(server.requests) - known)
    assert sum(number > 1 for number in asked) == 6  # all is read again each ten minutes
    for resource, points in before.items():
        assert (points - server.points[resource]) * REPOSITORIES <= QUARTER
    assert server.violations == []


@pytest.mark.parametrize("quiet", range(1, 5))
def test_what_changes_between_quiet_polls_is_seen_by_the_next(
    server: GitHubServer, forge: GitHub, clock: FakeClock, quiet: int
) -> None:
    source = EpicSource(forge, "acme", "widgets")
    for _ in range(quiet):
        assert poll(source, clock)[43].needs_coding
    server.add_pull(51, body="closes #43")
    assert poll(source, clock)[43].pr_number == 51
    server.issues[42]["title"] = "Renamed"
    assert poll(source, clock)[42].issue_title == "Renamed"


def test_news_is_news_to_each_source_of_a_repository(
    server: GitHubServer, forge: GitHub, clock: FakeClock
) -> None:
    """Such as two of different labels, which share the connection and its cache."""
    server.add_issue(2, body="- [ ] #43\n", labels=["story"])
    epics = EpicSource(forge, "acme", "widgets", name="epics")
    stories = EpicSource(forge, "acme", "widgets", label="story", name="stories")
    for source in (epics, stories):
        poll(source, clock)
    server.add_pull(51, body="closes #43")
    for source in (epics, stories):
        assert poll(source, clock)[43].pr_number == 51


def test_checks_are_read_at_every_second_quiet_poll(
    server: GitHubServer, forge: GitHub, clock: FakeClock
) -> None:
    source = EpicSource(forge, "acme", "widgets")
    poll(source, clock)
    server.issues[50]["pull"]["checks"] = "SUCCESS"  # no change of an issue
    assert [poll(source, clock)[42].check_status for _ in range(2)] == ["PENDING", "SUCCESS"]
