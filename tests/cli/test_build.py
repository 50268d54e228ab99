"""``core-infra build`` and ``core-infra release``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from build_samples import copy_sample, need

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-c", "from core_infra._cli.main import main; main()"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    need("task")
    return copy_sample("taskfile", tmp_path / "greeter")


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)


def test_a_build_lists_artifacts_on_stdout_and_progress_on_stderr(project: Path) -> None:
    done = run("build", project, "-t", "linux/arm64", "-t", "darwin/arm64")
    names = ["linux_arm64/greeter", "darwin_arm64/greeter"]
    assert done.stdout.splitlines() == [f"{project}/dist/{name}" for name in names]
    assert "linux/arm64: 1 task build" in done.stderr
    assert done.returncode == 0


def test_json_is_all_of_stdout(project: Path) -> None:
    done = run("build", project, "--archive", "--format", "zip", "--name", "hi", "--json")
    data = json.loads(done.stdout)
    (artifact,) = data["artifacts"]
    assert artifact["path"].endswith(".zip")
    assert len(artifact["checksum"]) == 64
    assert [path.rpartition("/")[2] for path in data["documents"]] == [
        "manifest.json",
        "CHECKSUMS.txt",
    ]


def test_a_release_is_a_dry_run_by_default(project: Path) -> None:
    done = run("release", project)
    assert done.returncode == 0
    assert "task build GOOS=" in done.stdout
    assert "--no-dry-run" in done.stdout
    assert not (project / "dist").exists()

    done = run("release", project, "--no-dry-run")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{project}/dist/CHECKSUMS.txt")
    assert run("verify", project / "dist").returncode == 0


def test_a_plan_with_problems_is_shown_and_is_an_error(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(project))
    done = run("build", project, "--plan", "--json")
    assert done.returncode == 9
    assert "task is not on PATH" in json.loads(done.stdout)["problems"][0]
    assert "task is not on PATH" in done.stderr
    assert run("build", project, "--plan").returncode == 9


def test_a_failure_is_one_message_and_the_exit_code_of_its_kind(project: Path) -> None:
    (project / "greeter.sh").unlink()
    done = run("build", project)
    assert done.returncode == 8
    assert done.stderr.count("greeter.sh") < 4
    assert "Traceback" not in done.stderr
    assert run("build", project.parent).returncode == 3
    assert run("build", project, "-t", "../../x").returncode == 5


def test_a_build_that_is_not_the_same_twice_is_refused(project: Path) -> None:
    (project / "Taskfile.yml").write_text(
        'version: "3"\ntasks: {build: {cmds: [pwd > "$OUTPUT_DIR/app"]}}\n'
    )
    done = run("build", project, "--twice")
    assert done.returncode == 5
    assert "app: content" in done.stderr
    assert not (project / "dist").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_build_leaves_nothing(
    project: Path, number: signal.Signals, code: int
) -> None:
    started = project / "started"
    os.mkfifo(started)
    (project / "Taskfile.yml").write_text(
        f'version: "3"\ntasks: {{build: {{cmds: ["echo > {started}", "sleep 600"]}}}}\n'
    )
    with subprocess.Popen([*COMMAND, "build", project], stderr=subprocess.PIPE) as build:
        started.read_text()
        build.send_signal(number)
        build.communicate()
    assert build.returncode == code
    assert not (project / "dist").exists()
