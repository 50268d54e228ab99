"""The sample projects, and what this host has to build them with."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
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


def git(directory: Path, *words: str) -> str:
    """Run git, as an author."""
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *who, *words], cwd=directory, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def repository(directory: Path, files: dict[str, str], *tags: str) -> Path:
    """A repository with one commit of these files, which has these tags."""
    need("git")
    for name, text in {".gitignore": "dist\nignored\n", **files}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    git(directory, "init", "-q")
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "one")
    for tag in tags:
        git(directory, "tag", tag)
    return directory
