"""The sample projects, and what this host has to build them with."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "fixtures" / "projects"


def need(*names: str) -> None:
    """Skip the test unless all programs (or Python's modules, as ``-m build``) are there."""
    for name in names:
        module = name.removeprefix("-m ")
        there = importlib.util.find_spec(module) if module != name else shutil.which(name)
        if not there:
            pytest.skip(f"{name} is not installed on this host")


def copy_sample(name: str, directory: Path) -> Path:
    shutil.copytree(SAMPLES / name, directory, dirs_exist_ok=True)
    return directory


def tree(directory: Path) -> dict[str, bytes]:
    """The files beneath a directory."""
    return {
        os.path.relpath(path, directory): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
