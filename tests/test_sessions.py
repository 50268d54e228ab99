"""The nox sessions, registered in a user's noxfile."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from build_samples import copy_sample, need
from core_infra import sessions

NOXFILE = """\
import nox
from core_infra import sessions

nox.session(sessions.{name}, venv_backend="none")
"""


def nox(directory: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    need("-m nox")
    (directory / "noxfile.py").write_text(NOXFILE.format(name=name))
    # The environment that the tests run in: all that a session would install is there.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "nox", "-s", name, "--", *arguments],
        cwd=directory,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_line_makes_a_release_of_a_users_project(tmp_path: Path) -> None:
    need("task")
    project = copy_sample("taskfile", tmp_path / "greeter")
    done = nox(project, "release", "--target", "linux/amd64", "--name", "hi")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (project / "dist").iterdir()}
    assert {"hi_linux_amd64.tar.gz", "CHECKSUMS.txt", "sbom.cdx.json"} <= names


def test_a_release_can_be_a_dry_run_all_the_same(tmp_path: Path) -> None:
    need("task")
    project = copy_sample("taskfile", tmp_path / "greeter")
    done = nox(project, "release", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "task build GOOS=" in done.stdout
    assert not (project / "dist").exists()


def test_the_test_suite_runs_with_arguments(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_one(): pass\n\ndef test_two(): pass\n")
    done = nox(tmp_path, "tests", "-k", "one", "-p", "no:cacheprovider")
    assert "1 passed, 1 deselected" in done.stdout


def test_a_session_that_fails_fails(tmp_path: Path) -> None:
    need("task")
    project = copy_sample("taskfile", tmp_path / "greeter")
    (project / "greeter.sh").unlink()
    assert nox(project, "build").returncode == 1


@pytest.mark.parametrize("name", ["build", "core_vm", "lint", "plan", "release", "tests"])
def test_each_takes_a_session_and_says_what_it_is_for(name: str) -> None:
    function = getattr(sessions, name)
    assert isinstance(function, types.FunctionType)
    assert list(inspect.signature(function).parameters) == ["session"]
    assert function.__doc__


def test_a_session_installs_the_core_infra_that_nox_has() -> None:
    found = Requirement(sessions.requirement("build"))
    assert (found.name, found.extras) == ("core-infra", {"build"})
    assert found.url or found.specifier


def test_nox_needs_nothing_else_for_a_noxfile_with_them() -> None:
    source = str(Path(sessions.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {source!r}); "
    code += "from core_infra import sessions; print(sessions.requirement())"
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("core-infra")
