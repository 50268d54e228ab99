"""The examples, run as the README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_examples_pass() -> None:
    command = [sys.executable, "-m", "pytest", "--core-vm=require", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [*command, "examples"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
