"""What several tests of builds need."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class GpgHome:
    """A GnuPG home with one throwaway key."""

    path: str
    address: str
    passphrase: str
    public_key: bytes


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs the program {program}")


def accepts(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program that must agree; what it prints."""
    needs(str(command[0]))
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout
