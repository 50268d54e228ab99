"""``core-infra run``, as a user sees it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pexpect
import pytest
from click.testing import CliRunner

from core_infra._cli.main import main
from support import wait_gone

if TYPE_CHECKING:
    from click.testing import Result

TASKS = """
workers: 2
tasks:
  lint:
    command: echo linted
  build:
    shell: echo built | tr b B
  test:
    shell: echo wrong; exit 3
    after: [build]
  deploy:
    command: echo deployed
    after: [test, lint]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.yml").write_text(TASKS)
    return tmp_path


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["run", *args])


def test_all_tasks(here: Path) -> None:
    result = run("tasks.yml")
    assert result.exit_code == 8
    assert "  | Built" in result.output
    assert "so these did not run: deploy" in result.output
    assert "2 passed, 1 failed, 1 skipped" in result.output
    assert "not all tasks of tasks.yml passed" in result.output
    remembered = json.loads((here / ".core" / "cache" / "durations.json").read_text())
    assert remembered.keys() == {"lint", "build"}
    assert (here / ".core" / "cache" / ".gitignore").read_text() == "*\n"


def test_the_loss_of_long_output_is_reported(here: Path) -> None:
    (here / "tasks.yml").write_text("tasks: {count: {command: seq 200000}}")
    lines = run("tasks.yml", "--json", "report.json").output.splitlines()
    assert lines[1] == "  | [240319 bytes before this are not kept]"
    assert json.loads((here / "report.json").read_text())["results"][0]["output_lost"] == 240319


@pytest.mark.parametrize("place", [".", "tasks.yml/report"])
def test_where_no_report_can_be_written_nothing_is_run(here: Path, place: str) -> None:
    (here / "tasks.yml").write_text("tasks: {touch: {command: touch ran}}")
    result = run("tasks.yml", "--junit", place)
    assert result.exit_code == 5
    assert f"cannot write {place}" in result.output
    assert not (here / "ran").exists()


def test_a_file_that_is_not_text_is_reported(here: Path) -> None:
    (here / "tasks.yml").write_bytes(b"tasks:\n  caf\xe9: {command: 'true'}\n")
    result = run("tasks.yml")
    assert result.exit_code == 5
    assert "byte 12 is 0xe9" in result.output


def test_output_that_cannot_be_written_is_an_error() -> None:
    line = [sys.executable, "-m", "core_infra", "run", "tasks.yml"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 9
    assert done.stderr == "core-infra: the output cannot be written: No space left on device\n"


def test_some_tasks_and_what_they_need() -> None:
    result = run("tasks.yml", "lint", "build")
    assert result.exit_code == 0, result.output
    assert "2 passed in" in result.output
    result = run("tasks.yml", "deploy")
    assert "2 passed, 1 failed, 1 skipped" in result.output


def test_a_name_that_is_not_there() -> None:
    result = run("tasks.yml", "lnt")
    assert result.exit_code == 5
    assert "there is no 'lnt'; did you mean 'lint'?" in result.output


def test_a_dry_run_runs_nothing(here: Path) -> None:
    result = run("tasks.yml", "-n")
    assert result.exit_code == 0
    assert "deploy  echo deployed  (after test, lint)" in result.output
    assert "linted" not in result.output.replace("echo linted", "")
    assert not (here / ".core").exists()


def test_what_cleans_up_runs_last_or_alone(here: Path) -> None:
    (here / "tasks.yml").write_text(
        "tasks: {a: {command: 'false'}, b: {command: 'true'}}\nfinally: {c: {command: echo bye}}\n"
    )
    assert run("tasks.yml", "-n").output.splitlines()[-2:] == ["finally:", "c  echo bye"]
    for names in ([], ["a"]):
        result = run("tasks.yml", *names)
        assert result.exit_code == 8
        assert "passed   c" in result.output
        assert "  | bye" in result.output
    result = run("tasks.yml", "c")
    assert result.exit_code == 0
    assert "1 passed in" in result.output


def test_stop_starts_nothing_after_a_failure(here: Path) -> None:
    (here / "tasks.yml").write_text("tasks:\n  a: {command: 'false'}\n  b: {command: 'true'}\n")
    assert "1 failed, 1 skipped" in run("tasks.yml", "--stop", "-j", "1").output
    assert "1 passed, 1 failed" in run("tasks.yml", "-j", "1").output


def test_reports_are_written_also_of_a_failed_run(here: Path) -> None:
    result = run("tasks.yml", "--junit", "out/j.xml", "--json", "r.json", "--trace", "t.json")
    assert result.exit_code == 8
    assert ET.parse(here / "out" / "j.xml").getroot().attrib["failures"] == "1"  # noqa: S314
    assert json.loads((here / "r.json").read_text())["skipped"] == 1
    assert len(json.loads((here / "t.json").read_text())["traceEvents"]) == 3


def test_a_broken_file(here: Path) -> None:
    (here / "tasks.yml").write_text("tasks:\n  a: {comand: x}\n")
    result = run("tasks.yml")
    assert result.exit_code == 5
    assert "tasks.yml:2: tasks.a.comand: unknown field; did you mean 'command'?" in result.output


def test_a_missing_file() -> None:
    result = run("absent.yml")
    assert result.exit_code == 3
    assert "absent.yml" in result.output


def test_tasks_run_beside_their_file(here: Path) -> None:
    directory = here / "sub dir"
    directory.mkdir()
    (directory / "tasks.yml").write_text("tasks: {where: {command: pwd}}")
    assert f"  | {directory}\n" in run("sub dir/tasks.yml").output


COMMAND = [sys.executable, "-c", "from core_infra._cli.main import main; main()", "run"]


@pytest.mark.parametrize(
    ("number", "terminal"),
    [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)],
)
def test_a_signal_ends_the_tasks_and_still_reports(
    here: Path, number: signal.Signals, *, terminal: bool
) -> None:
    (here / "tasks.yml").write_text(
        "tasks:\n"
        "  quick: {command: 'true'}\n"
        "  long: {shell: 'sleep 60 & echo $! > pid.new; mv pid.new pid; wait', after: [quick]}\n"
        "  later: {command: 'true', after: [long]}\n"
    )
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [*COMMAND, "tasks.yml", "--json", "r.json"], stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    while not Path("pid").exists():
        time.sleep(0.01)
    process.send_signal(number)
    told = b""
    try:
        while piece := os.read(ours, 65536):
            told += piece
    except OSError:  # what a pty says at its end
        assert terminal
    os.close(ours)
    assert process.wait(30) == 128 + number
    assert b"1 passed, 1 failed, 1 skipped, interrupted after" in told
    found = json.loads(Path("r.json").read_text())
    assert found["interrupted"]
    wait_gone(int(Path("pid").read_text()))


@pytest.mark.parametrize("terminal", [False, True])
def test_each_line_is_shown_as_it_comes(here: Path, *, terminal: bool) -> None:
    (here / "tasks.yml").write_text(
        "tasks:\n"
        "  first: {shell: 'echo one; printf \"50%%\\r100%%\\nrest\"'}\n"
        "  waits: {shell: 'echo two; until test -e go; do sleep 0.01; done; exit 3'}\n"
        "  missing: {command: no-such-program-here}\n"
    )
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen([*COMMAND, "--output=live", "-j", "3"], stdout=theirs, stderr=theirs)
    os.close(theirs)
    told = b""
    while (b"\x1b[0m | two" if terminal else b"waits | two\n") not in told:
        told += os.read(ours, 65536)
    (here / "go").touch()
    assert process.wait(30) == 8
    os.close(ours)


def test_live_output_keeps_lines_whole(here: Path) -> None:
    (here / "tasks.yml").write_text(
        "tasks:\n"
        "  a: {shell: 'echo one; printf \"50%%\\r100%%\\nrest\"'}\n"
        "  b: {shell: 'echo two; test -e again || { touch again; exit 3; }', retries: 1}\n"
    )
    result = run("--output=live", "-j", "1")
    lines = [line.partition(" (")[0] for line in result.output.splitlines()]
    assert lines == [
        *("a | one", "a | 50%", "a | 100%", "a | rest", "passed   a"),
        *("b | two", "again    b: exit code 3", "b | two", "passed   b"),
        *("", "2 passed in " + result.output.split()[-2] + " " + result.output.split()[-1]),
    ]


def test_the_file_is_found_or_named(here: Path) -> None:
    (here / "other").write_text("tasks: {a: {command: echo other}}")
    assert "linted" in run("lint").output
    assert "other" in run("other").output
    assert "other" in run("-f", "other", "a").output
    (here / "tasks.yml").rename(here / "tasks.yaml")
    assert "linted" in run("lint").output
    (here / ".core").mkdir(exist_ok=True)
    (here / "tasks.yaml").rename(here / ".core" / "tasks.yml")
    assert "linted" in run("lint").output
    (here / ".core" / "tasks.yml").unlink()
    result = run("lint")
    assert result.exit_code == 3
    assert "neither tasks.yml, tasks.yaml nor .core/tasks.yml is here" in result.output


def test_tasks_are_listed_with_their_descriptions(here: Path) -> None:
    (here / "tasks.yml").write_text(
        "tasks: {lint: {command: x, description: The style}, b: {command: y}}\n"
        "finally: {stop: {command: z, description: Stops it}}\n"
    )
    assert run("--list").output == "lint  The style\nb\nstop  Stops it\n"


def test_arguments_go_to_the_named_tasks(here: Path) -> None:
    (here / "tasks.yml").write_text(
        "tasks:\n  need: {command: echo need}\n"
        "  a: {command: echo a, after: [need]}\n"
        "  b: {shell: 'echo \"$0/$2/$1\"'}\n"
        "  c: {shell: 'echo \"$0/$2/$1\"', args: [x]}\n"
    )
    told = run("-j", "1", "a", "b", "c", "--", "-n", "two words").output
    for line in ("need", "a -n two words", "sh/two words/-n", "sh/-n/x"):
        assert f"  | {line}\n" in told
    result = run("--", "x")
    assert result.exit_code == 5
    assert "no task is named" in result.output


def test_variables_are_set_on_the_command_line(here: Path) -> None:
    (here / "tasks.yml").write_text(
        "vars: {A: file}\ntasks:\n  a: {command: 'echo ${A}'}\n  b: {shell: 'echo \"<$A>\"'}\n"
    )
    assert "  | file\n" in run("a").output
    told = run("A=$(x) y", "a", "b").output
    assert "  | $(x) y\n" in told
    assert "  | <$(x) y>\n" in told


def test_what_is_up_to_date_is_not_run_unless_forced(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "sub").mkdir()
    (here / "sub" / "tasks.yml").write_text(
        "vars: {OUT: out}\n"
        "tasks: {a: {shell: 'echo x >> out', inputs: [in], outputs: ['${OUT}']}}\n"
    )
    (here / "sub" / "in").touch()
    assert "passed   a (up to date)" not in run("sub/tasks.yml").output
    assert "passed   a (up to date)" in run("sub/tasks.yml", "--json", "r.json").output
    assert json.loads((here / "r.json").read_text())["results"][0]["cached"] is True
    assert "up to date" not in run("sub/tasks.yml", "--force").output
    monkeypatch.chdir(here / "sub")
    assert "up to date" in run().output
    assert (here / "sub" / "out").read_text() == "x\nx\n"
    assert (here / "sub" / ".core" / "cache" / "tasks").is_dir()


def test_a_board_on_a_terminal(here: Path) -> None:
    (here / "tasks.yml").write_text(
        "tasks:\n  first: {command: 'true'}\n"
        "  slow: {shell: 'until test -e go; do sleep 0.01; done', after: [first]}\n"
    )
    child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], "tasks.yml"], timeout=30, encoding="utf-8")
    child.expect("passed +first")
    child.expect("1/2")
    child.expect("slow")
    (here / "go").touch()
    child.expect("passed +slow")
    child.expect("2 passed in")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
