"""A bot that is killed at random moments, with what was not synced lost, does all of it once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core_infra.jobrunner import Journal, NotLeaderError
from core_infra.jobrunner._leadership import Leadership

PROGRAMS = Path(__file__).parent / "programs"
BOT = PROGRAMS / "killed_bot.py"
FORKED_LEADER = PROGRAMS / "forked_leader.py"


def test_no_kill_loses_repeats_or_forgets_anything(tmp_path: Path) -> None:
    kills = os.environ.get("CORE_INFRA_TEST_KILLS", "40")
    run = subprocess.run(
        [sys.executable, BOT, tmp_path, kills, "7"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    counted = json.loads(run.stdout)
    errors = tmp_path / "errors"
    assert not errors.exists(), errors.read_text()
    wrong = ("twice", "acknowledged_and_lost", "open", "not_done", "breaks")
    assert {name: counted[name] for name in wrong} == dict.fromkeys(wrong, 0), counted
    assert counted["survived"] < int(kills)
    assert counted["actions"] >= 40


def test_no_kill_on_two_hosts_with_one_database_loses_or_repeats_anything(
    tmp_path: Path, database: str
) -> None:
    kills = os.environ.get("CORE_INFRA_TEST_KILLS", "25")
    run = subprocess.run(
        [sys.executable, BOT, tmp_path, kills, "11", database],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    counted = json.loads(run.stdout)
    errors = tmp_path / "errors"
    assert not errors.exists(), errors.read_text()
    wrong = ("twice", "acknowledged_and_lost", "open", "not_done", "breaks")
    assert {name: counted[name] for name in wrong} == dict.fromkeys(wrong, 0), counted


def test_what_a_killed_poller_has_forked_does_not_go_on_leading(base: Path) -> None:
    """As the workers of its executor: they outlive it, with all files that it had open."""
    poller = subprocess.Popen(
        [sys.executable, FORKED_LEADER, base], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with poller:
        assert poller.stdout is not None
        assert poller.stdout.readline() == b"forked\n"
        leadership = Leadership(Journal(base))
        with pytest.raises(NotLeaderError):
            leadership.acquire()
        poller.kill()
        poller.wait(30)
        assert leadership.acquire()
        leadership.release()
