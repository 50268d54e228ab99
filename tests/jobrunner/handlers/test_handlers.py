"""Handlers that need no forge: tickets, and programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.jobrunner import CheckedCommandHandler, CommandHandler, Dispatch, Job
from core_infra.medium import MemoryMedium
from core_infra.process._service import Service
from jobs.samples import NOON, signal

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.jobrunner import PipelineSignal
    from pytest_core_infra._stepper import Stepper

ECHO = """import os, sys, json
with open(sys.argv[1], "w") as out:
    json.dump([json.load(sys.stdin), dict(os.environ)], out)
"""


def job(seen: PipelineSignal, action: str = "run", **fields: Any) -> Job:
    given: dict[str, Any] = {"id": "0123", "first_tried": NOON, "timeout": 60.0}
    return Job(action=action, signal=seen, **given | fields)


def coding(**fields: Any) -> PipelineSignal:
    return signal(needs_coding=True, assignee="ann", pr_number=0, pr_state="", **fields)


def test_a_child_gets_one_ticket(core_poller: Stepper) -> None:
    medium = MemoryMedium()
    core_poller.add_handler(Dispatch(medium, "queue"))
    core_poller.signals = [coding(issue_title="One", issue_body="do it"), signal()]
    core_poller.step()
    (name,) = medium.list("queue/ann")
    ticket = json.loads(medium.read_text(f"queue/ann/{name}"))
    assert (ticket["title"], ticket["body"], ticket["child"]) == ("One", "do it", 4)
    assert len(ticket["id"]) == 32
    medium.rename(f"queue/ann/{name}", f"queue/ann/active/{name}")
    core_poller.crash()
    core_poller.step()
    assert medium.list("queue/ann") == ["active"]


def test_only_known_agents_have_a_queue() -> None:
    medium = MemoryMedium()
    dispatch = Dispatch(medium, "queue", agents=["bob"], target_branch="develop")
    assert not dispatch.match(coding())
    seen = signal(needs_coding=True, assignee="bob")
    assert dispatch.match(seen)
    dispatch.execute(seen, job(seen))
    (name,) = medium.list("queue/bob")
    assert json.loads(medium.read_text(f"queue/bob/{name}"))["target_branch"] == "develop"


def test_a_hostile_assignee_has_a_queue_like_any_other() -> None:
    medium = MemoryMedium()
    dispatch = Dispatch(medium, "queue")
    seen = signal(needs_coding=True, assignee="../../etc", repo_owner="../..")
    assert dispatch.match(seen)
    assert dispatch.rehearse(seen, job(seen))
    dispatch.execute(seen, job(seen))
    assert medium.list(".") == ["queue"]
    assert len(medium.list("queue")) == 1
    assert dispatch.rehearse(seen, job(seen)) == []


@pytest.mark.parametrize("own", [True, False])
def test_a_program_gets_the_signal_on_its_input(tmp_path: Path, *, own: bool) -> None:
    out = tmp_path / "out"
    hostile = signal(issue_title="$(touch /tmp/x); `id` \0 '\"", issue_body="x" * 300_000)
    command = [sys.executable, "-c", ECHO, str(out)]
    with Service() as service:
        when = {"pr_state": "OPEN"}
        handler = CommandHandler("run", command, when=when, service=None if own else service)
        assert handler.execute(hostile, job(hostile, cycle=3)).success
    fields, env = json.loads(out.read_text())
    assert fields == hostile.to_dict()
    assert (env["CORE_INFRA_JOB_ID"], env["CORE_INFRA_JOB_CYCLE"]) == ("0123", "3")
    assert (env["CORE_INFRA_JOB_ACTION"], env["CORE_INFRA_JOB_ATTEMPT"]) == ("run", "1")


def test_a_program_need_not_read_its_input() -> None:
    large = signal(issue_body="x" * 1_000_000)
    handler = CommandHandler("run", ["true"], when={})
    assert handler.execute(large, job(large)).success


def test_a_program_that_fails_is_a_failure_with_its_last_words(core_poller: Stepper) -> None:
    command = ["sh", "-c", "echo it is broken >&2; exit 3"]
    core_poller.add_handler(CommandHandler("run", command, when={"pr_state": "OPEN"}))
    core_poller.signals = [signal()]
    (result,) = core_poller.step().results
    assert "exit code 3" in result.error
    assert "it is broken" in result.error


def test_a_program_that_hangs_is_ended(core_poller: Stepper) -> None:
    handler = CommandHandler("run", ["sleep", "600"], when={"pr_state": "OPEN"}, timeout=0.1)
    core_poller.add_handler(handler)
    core_poller.signals = [signal()]
    (result,) = core_poller.step().results
    assert "did not end within 0.1 s" in result.error


def test_a_missing_program_is_a_failure(core_poller: Stepper) -> None:
    core_poller.add_handler(CommandHandler("run", ["no-such-program"], when={"pr_state": "OPEN"}))
    core_poller.signals = [signal()]
    (result,) = core_poller.step().results
    assert "no-such-program" in result.error


def test_when() -> None:
    handler = CommandHandler(
        "run", ["true"], when={"pr_state": ["OPEN", "CLOSED"], "is_draft": True}
    )
    assert handler.match(signal(is_draft=True))
    assert handler.match(signal(is_draft=True, pr_state="CLOSED"))
    assert not handler.match(signal(is_draft=True, pr_state="MERGED"))
    assert not handler.match(signal())
    assert list(handler.rehearse(signal(), job(signal()))) == ["run true for acme/widgets#5"]


@pytest.mark.parametrize(
    ("command", "when"), [([], {}), ("true", {}), (["true"], {"no_such_field": 1})]
)
def test_an_impossible_program_is_refused(command: Any, when: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        CommandHandler("run", command, when=when)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("pr_state", "open", "Input should be '', 'OPEN', 'MERGED' or 'CLOSED'"),
        ("pr_state", ["OPEN", "open"], "'MERGED' or 'CLOSED'"),
        ("pr_number", "many", "a valid integer"),
        ("pr_number", "5", "a valid integer"),
        ("pr_number", True, "a valid integer"),
        ("is_draft", 1, "a valid boolean"),
        ("assignee", 5, "a valid string"),
        ("pr_state", [], "The list is empty"),
    ],
)
def test_what_never_matches_is_refused(field: str, value: Any, told: str) -> None:
    with pytest.raises(InvalidError, match=f"handler 'run' would never match: .*{field}") as caught:
        CommandHandler("run", ["true"], when={field: value})
    assert told in str(caught.value)


@pytest.mark.parametrize(("code", "answer"), [(0, True), (1, False)])
def test_a_second_program_finds_out_whether_it_was_done(code: int, *, answer: bool) -> None:
    check = ["sh", "-c", f"test $CORE_INFRA_JOB_ID = 0123 && exit {code}"]
    handler = CheckedCommandHandler("run", ["true"], check=check, when={})
    assert handler.happened(signal(), job(signal())) is answer


def test_a_second_program_that_fails_finds_out_nothing() -> None:
    handler = CheckedCommandHandler("run", ["true"], check=["sh", "-c", "exit 2"], when={})
    with pytest.raises(CoreInfraError, match="cannot find out about run"):
        handler.happened(signal(), job(signal()))
