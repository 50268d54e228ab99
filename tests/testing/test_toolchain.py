"""Programs on PATH that log their calls."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from core_infra.errors import AlreadyExistsError, InvalidError
from core_infra.testing import Toolchain

ANSWER = {"tool": "print('answer', *argv[1:])"}


def test_a_stand_in_is_found_on_the_path_and_its_calls_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tools = Toolchain(Path("a 'b' {c}"), ANSWER)
    assert tools.add("tool")
    monkeypatch.chdir("/")
    with tools.on_path():
        done = subprocess.run(["tool", "x"], capture_output=True, text=True, check=True)
    assert done.stdout == "answer x\n"
    assert [call.argv for call in tools.calls()] == [["tool", "x"]]


@pytest.mark.parametrize("before", ["/nowhere", "", None])
def test_the_path_is_as_before_after_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    tools = Toolchain(tmp_path / "tools", {})
    if before is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", before)
    with tools.on_path(alone=True):
        # Without an empty entry, which would be the working directory.
        assert os.environ["PATH"] == str(tmp_path / "tools/bin")
    assert os.environ.get("PATH") == before


def test_a_block_within_another_fails_in_its_own_way(tmp_path: Path) -> None:
    tools = Toolchain(tmp_path / "tools", ANSWER)
    tools.add("tool")

    def code() -> int:
        return subprocess.run([tmp_path / "tools/bin/tool"], check=False).returncode

    with tools.failing("failed"):
        with tools.failing("killed"):
            assert code() < 0
        assert code() == 1
    assert code() == 0


@pytest.mark.parametrize("kind", ["absolute", "above", "beside"])
def test_no_program_outside_the_directory_is_written(tmp_path: Path, kind: str) -> None:
    program = tmp_path / "program"
    program.write_text("mine")
    name = {"absolute": str(program), "above": "../../program", "beside": "sub/program"}[kind]
    tools = Toolchain(tmp_path / "tools", {})
    with pytest.raises(InvalidError, match="without a directory"):
        tools.add(name)
    with pytest.raises(InvalidError, match="without a directory"):
        Toolchain(tmp_path / "others", {name: "pass"})
    assert program.read_text() == "mine"


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "a\nb", "\ud800", 3, None, ["x"]])
def test_what_is_not_a_programs_name_is_refused(tmp_path: Path, name: Any) -> None:
    with pytest.raises(InvalidError, match="no program can be named"):
        Toolchain(tmp_path / "tools", {}).add(name)


@pytest.mark.parametrize("stand_ins", [None, ["tool"], {"tool": 3}, {"tool": "(("}, {3: "pass"}])
def test_stand_ins_that_are_not_source_are_refused(tmp_path: Path, stand_ins: Any) -> None:
    with pytest.raises(InvalidError):
        Toolchain(tmp_path / "tools", stand_ins)
    assert not (tmp_path / "tools").exists()


@pytest.mark.parametrize("directory", [None, 3, b"bytes", "a\0b", "file"])
def test_what_cannot_be_a_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(InvalidError, match="cannot put programs into"):
        Toolchain(directory, {})


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").write_text("mine")
    with pytest.raises(AlreadyExistsError, match="it is not empty"):
        Toolchain(tmp_path, {})


@pytest.mark.parametrize("how", ["", "crash", None, 3, True])
def test_an_unknown_way_to_fail_is_refused(tmp_path: Path, how: Any) -> None:
    with (
        pytest.raises(InvalidError, match="cannot fail like"),
        Toolchain(tmp_path / "tools", {}).failing(how),
    ):
        pass
