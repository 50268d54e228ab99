"""Programs that tests of processes run; most are files in ``tests/process/programs``."""

import subprocess
import sys
from pathlib import Path

PYTHON = sys.executable
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 60; done"
"""A script for a shell; a file would need one more process."""

_DIRECTORY = Path(__file__).parents[1] / "process" / "programs"


def program(name: str, *args: str) -> list[str]:
    """The command that runs a program of ``tests/process/programs``."""
    return [PYTHON, str(_DIRECTORY / f"{name}.py"), *args]


def output_of(name: str, *args: str) -> str:
    """The output of such a program, which must write nothing to stderr."""
    done = subprocess.run(
        program(name, *args), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    return done.stdout
