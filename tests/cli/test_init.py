from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner, Result

from core_infra._cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

FILES = ["tests/test_machine.py", "noxfile.py", ".github/workflows/machines.yml"]


def init(project: Path, *arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(main, ["init", str(project), *arguments], input=answers)


def files(project: Path) -> list[str]:
    return sorted(str(one.relative_to(project)) for one in project.rglob("*") if one.is_file())


def test_each_file_is_shown_and_only_what_is_agreed_to_is_written(tmp_path: Path) -> None:
    result = init(tmp_path, answers="y\nn\ny\n")
    assert result.exit_code == 0, result.output
    assert all(f"Write {file}?" in result.output for file in FILES)
    assert "nox.session(sessions.tests)" in result.output
    assert files(tmp_path) == sorted([FILES[0], FILES[2]])


def test_without_an_answer_nothing_is_written(tmp_path: Path) -> None:
    result = init(tmp_path)
    assert result.exit_code == 1
    assert files(tmp_path) == []


def test_files_that_exist_stay(tmp_path: Path) -> None:
    (tmp_path / "noxfile.py").write_text("mine\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_machine.py").symlink_to("/nowhere")
    result = init(tmp_path, "--yes")
    assert "noxfile.py: exists, and stays as it is" in result.output
    assert (tmp_path / "noxfile.py").read_text() == "mine\n"
    assert (tmp_path / "tests/test_machine.py").is_symlink()


@pytest.mark.parametrize(
    ("there", "workflow"),
    [
        (".github/", ".github/workflows/machines.yml"),
        (".forgejo/", ".forgejo/workflows/machines.yml"),
        (".gitlab-ci.yml", None),
    ],
)
def test_the_workflow_is_for_the_forge_of_the_project(
    tmp_path: Path, there: str, workflow: str | None
) -> None:
    place = tmp_path / there
    place.mkdir() if there.endswith("/") else place.write_text("stages: []\n")
    init(tmp_path, "--yes")
    assert files(tmp_path) == sorted([*FILES[:2], workflow or there])


@pytest.mark.parametrize("ci", ["github", "forgejo", "gitlab"])
def test_workflows_are_yaml_with_pinned_actions(tmp_path: Path, ci: str) -> None:
    init(tmp_path, "--yes", "--ci", ci)
    (path,) = set(files(tmp_path)) - set(FILES[:2])
    text = (tmp_path / path).read_text()
    (job,) = (yaml.safe_load(text).get("jobs") or yaml.safe_load(text)).values()
    for step in job.get("steps", []):
        if "uses" in step:
            assert len(step["uses"].partition("@")[2]) == 40
    assert "--core-vm=require" in text


def test_what_is_written_passes(tmp_path: Path) -> None:
    init(tmp_path, "--yes", "--ci", "none")
    pytest_ = [sys.executable, "-m", "pytest", "--core-vm=require", "-p", "no:cacheprovider"]
    done = subprocess.run(pytest_, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    nox = [sys.executable, "-m", "nox", "--list"]
    listed = subprocess.run(nox, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "* tests" in listed
    assert "- core_vm" in listed


def test_a_project_without_tests_learns_how_to_begin(tmp_path: Path) -> None:
    pytest_ = [sys.executable, "-m", "pytest", "--core-vm", "-p", "no:cacheprovider"]
    done = subprocess.run(pytest_, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "core-infra init" in done.stdout
