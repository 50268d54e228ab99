"""A bot that is killed at random moments, with what was not synced lost, does all of it once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BOT = Path(__file__).with_name("killed_bot.py")


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
