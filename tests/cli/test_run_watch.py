"""``core-infra run --watch``, as a user sees it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
from click.testing import CliRunner

from core_infra._cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND = [sys.executable, "-m", "core_infra", "run", "--watch", "--output=live"]
WAITING = "waiting for changes; Ctrl-C ends\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("watchfiles", reason="needs core-infra[watch]")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def watch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stdout is not None
        process.stdout.close()


def until(process: subprocess.Popen[str], end: str) -> list[str]:
    """The lines up to one, which comes: the suite's timeout is the only limit."""
    stream: IO[str] | None = process.stdout
    assert stream is not None
    lines: list[str] = []
    while not lines or lines[-1] != end:
        line = stream.readline()
        assert line, lines
        lines.append(line)
    return lines


def put(path: Path, text: str) -> None:
    """Write a file at once: what is half written would be a change of its own."""
    new = Path(f"{Path.cwd()}-new")
    new.write_text(text)
    new.rename(path)


def test_tasks_run_again_when_their_inputs_change(
    here: Path, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    put(
        here / "tasks.yml",
        "tasks:\n"
        "  a: {shell: 'cat in*; touch out other', inputs: ['in*'], outputs: [out]}\n"
        "  b: {command: cat out, inputs: [out], after: [a]}\n",
    )
    put(here / "in1", "one\n")
    process = watch()
    assert "a | one\n" in until(process, WAITING)
    (here / "elsewhere").touch()
    put(here / "in1", "two\n")
    again = until(process, WAITING)
    assert again[0] == "a | two\n"
    assert "interrupted" not in "".join(again)
    put(here / "in2", "three\n")
    assert until(process, WAITING)[:2] == ["a | two\n", "a | three\n"]
    (here / "in1").unlink()
    assert until(process, WAITING)[0] == "a | three\n"


def test_without_inputs_all_files_count_but_those_that_git_ignores(
    here: Path, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    put(here / ".gitignore", "ignored\n")
    put(
        here / "tasks.yml",
        "tasks: {a: {shell: 'cat src/x; touch ignored; mkdir -p __pycache__; : > __pycache__/y'}}",
    )
    (here / "src").mkdir()
    put(here / "src" / "x", "one\n")
    process = watch("--json", "report.json")
    assert until(process, WAITING)[0] == "a | one\n"
    put(here / "ignored", "changed")
    put(here / ".git" / "mine", "changed")
    put(here / "src" / "x", "two\n")
    assert until(process, WAITING)[0] == "a | two\n"


def test_a_change_during_a_run_starts_it_again(
    here: Path, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    put(
        here / "tasks.yml",
        "tasks: {a: {shell: 'cat in; until test -e go; do sleep 0.01; done', inputs: [in]}}",
    )
    put(here / "in", "one\n")
    process = watch()
    until(process, "a | one\n")
    put(here / "in", "two\n")
    assert WAITING not in until(process, "a | two\n")
    (here / "go").touch()
    assert "a | two\n" not in until(process, WAITING)


def test_a_broken_file_is_reported_and_waited_for(
    here: Path, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    put(here / "tasks.yml", "tasks: {a: {comand: x}}")
    process = watch()
    assert "did you mean 'command'?" in "".join(until(process, WAITING))
    put(here / "tasks.yml", "tasks: {a: {command: echo better}}")
    assert until(process, WAITING)[0] == "a | better\n"


def test_without_watchfiles_it_says_what_to_install(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here / "tasks.yml", "tasks: {a: {command: touch ran}}")
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = CliRunner().invoke(main, ["run", "--watch"])
    assert result.exit_code == 9
    assert "pip install 'core-infra[watch]'" in result.output
    assert not (here / "ran").exists()
