"""The types that a user's type checker sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_mypy_knows_services_handlers_and_answers() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/framework/programs/typed_use.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
