"""Fifty tests break copies of three replicated stores: the suite of the gallery."""

import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[3] / "examples" / "gallery" / "failover.py"


@pytest.mark.soak
def test_each_of_fifty_tests_has_a_copy_of_its_own() -> None:
    command = [sys.executable, "-m", "pytest", "--core-vm=require", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-n", "2", SUITE], capture_output=True, text=True, check=False
    )
    assert "= 50 passed" in result.stdout, result.stdout + result.stderr
