"""The standard streams that a command is given, in each state that they may be in."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "core_infra"]
LINES = ["--version", "--help", "vm --help", "run tasks.yml", "run -n tasks.yml", "vm cache list"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.yml").write_text("tasks: {count: {command: seq 20000}}")
    return tmp_path


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of sh, in which ``"$@"`` is core-infra."""
    return subprocess.run(
        ["sh", "-c", line, "sh", *COMMAND], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("line", LINES)
def test_a_full_disk_under_the_output(line: str) -> None:
    done = shell(f'"$@" {line} >/dev/full')
    assert done.stderr == "core-infra: the output cannot be written: No space left on device\n"
    assert done.returncode == 9


@pytest.mark.parametrize("line", ["--help", "run tasks.yml"])
def test_a_reader_that_has_seen_enough(line: str) -> None:
    done = shell(f'{{ "$@" {line}; echo $? >&2; }} | true')
    assert done.stderr == "1\n"


@pytest.mark.parametrize(("line", "code"), [("--help", 0), ("run no.yml", 3), ("--bogus", 2)])
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_are_closed_or_cannot_be_read(line: str, code: int, streams: str) -> None:
    assert shell(f'"$@" {line} {streams}').returncode == code


def test_a_closed_stream_does_not_become_another_file_in_a_child(here: Path) -> None:
    (here / "tasks.yml").write_text("tasks: {see: {command: readlink /proc/self/fd/2}}")
    assert "  | pipe:" in shell('"$@" run tasks.yml <&- 2>&-').stdout


def test_an_output_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # less than is written at once
    os.set_blocking(writer, False)
    process = subprocess.Popen([*COMMAND, "run", "tasks.yml"], stdout=writer)
    os.close(writer)
    with open(reader, "rb") as output:  # noqa: PTH123 - a descriptor
        lines = output.read().splitlines()
    assert process.wait(30) == 0
    assert b"  | 20000" in lines


@pytest.mark.parametrize("errors", ["", ":surrogateescape"])
def test_what_an_output_cannot_encode_is_escaped(here: Path, errors: str) -> None:
    (here / "tasks.yml").write_text("tasks: {tür: {shell: 'echo für ✓'}}", encoding="utf-8")
    done = shell(f'PYTHONIOENCODING=ascii{errors} "$@" run tasks.yml')
    assert (done.returncode, done.stderr) == (0, "")
    assert "passed   t\\xfcr" in done.stdout
    assert "  | f\\xfcr \\u2713\n" in done.stdout
