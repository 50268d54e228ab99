"""Programs that are started again."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.errors import InvalidError
from core_infra.process import LogPattern, RestartPolicy, RunOptions, Service, Status
from core_infra.process._reaper.registry import reaper


def flaky(count: int) -> list[str]:
    """A script that fails so many times."""
    return ["-c", f'echo x >> runs; echo up; [ "$(wc -l < runs)" -gt {count} ]']


def test_until_it_succeeds(service: Service, tmp_path: object) -> None:
    policy = RestartPolicy("on_failure", backoff=0.01)
    options = RunOptions("sh", flaky(3), dir=str(tmp_path), restart=policy)
    process = service.start_with_options(options)
    assert process.wait(30) == 0
    assert process.info().restarts == 3
    assert process.output() == "up\n" * 4


def test_not_more_often_than_allowed(service: Service) -> None:
    policy = RestartPolicy("always", max_restarts=2, backoff=0)
    process = service.start_with_options(RunOptions("true", restart=policy))
    assert process.wait(30) == 0
    assert process.info().restarts == 2
    assert process.status is Status.EXITED


def test_what_we_end_stays_ended(service: Service) -> None:
    policy = RestartPolicy("always", backoff=0)
    options = RunOptions("sh", ["-c", "echo up; sleep 60"], restart=policy)
    process = service.start_with_options(options)
    process.wait_ready(LogPattern("up"))
    process.kill()
    assert process.status is Status.KILLED
    assert process.info().restarts == 0


def test_it_can_be_ended_between_two_runs(service: Service) -> None:
    policy = RestartPolicy("always", backoff=600)
    process = service.start_with_options(RunOptions("echo", ["once"], restart=policy))
    while process.info().status is not Status.PENDING:
        process.over.wait(0.001)
    assert process.is_running()
    process.stop()
    assert process.info().status is Status.KILLED
    assert process.wait(0) == 0


def test_what_is_to_be_started_again_counts_as_left(service: Service) -> None:
    policy = RestartPolicy("always", backoff=600)
    process = service.start_with_options(RunOptions("echo", ["once"], restart=policy))
    while process.status is not Status.PENDING:
        process.over.wait(0.001)
    [left] = service.leftovers()
    assert left.process is process
    assert "echo once, which is to be started again" in left.describe()


def test_what_the_run_before_left_behind_is_gone_first(service: Service) -> None:
    policy = RestartPolicy("on_failure", max_restarts=3, backoff=0)
    script = "setsid sleep 60 & exit 1"
    process = service.start_with_options(RunOptions("sh", ["-c", script], restart=policy))
    process.wait(30)
    assert len(process.leftovers()) == 1


@given(st.integers(0, 10_000), st.floats(0, 10), st.floats(0, 100))
def test_pauses_grow_to_the_longest(restarts: int, backoff: float, longest: float) -> None:
    policy = RestartPolicy("always", backoff=backoff, max_backoff=longest)
    pause, following = policy.pause(0, restarts), policy.pause(0, restarts + 1)
    assert pause is not None
    assert following is not None
    assert pause <= following <= longest
    assert policy.pause(0, 0) == min(backoff, longest)


def test_only_known_policies() -> None:
    with pytest.raises(InvalidError, match="sometimes"):
        RestartPolicy("sometimes")  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="backoff"):
        RestartPolicy("always", backoff=-1)
    assert RestartPolicy().pause(1, 0) is None
    assert RestartPolicy("on_failure").pause(0, 0) is None


def test_it_goes_on_although_the_reaper_is_killed(service: Service) -> None:
    policy = RestartPolicy("always", backoff=0, max_restarts=1000)
    options = RunOptions("sh", ["-c", "echo up; exec sleep 60"], restart=policy)
    process = service.start_with_options(options)
    for killed in range(40):
        while process.status is not Status.RUNNING or process.info().restarts < killed:
            assert not process.over.wait(0.001)
        os.kill(reaper().pid, signal.SIGKILL)
        while process.info().restarts <= killed:
            assert not process.over.wait(0.001)
    process.kill()
    assert process.status is Status.KILLED
