"""A real directory comes into memory as it is, and is not touched by what happens there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from core_infra.medium import (
    InvalidPathError,
    OutsideSandboxError,
    PathNotDirectoryError,
    PathNotFoundError,
    load,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "bin").mkdir(parents=True)
    (project / "empty").mkdir()
    (project / "private").mkdir(mode=0o700)
    (project / "bin/run").write_bytes(b"#!\0\xff")
    (project / "bin/run").chmod(0o751)
    os.utime(project / "bin/run", (1, 1234.5))
    (project / "start").symlink_to("bin/run")
    (project / "round").symlink_to(".")
    (project / "out").symlink_to(tmp_path)
    (project / "nowhere").symlink_to("no/such")
    (project / os.fsdecode(b"\xff\n")).write_text("odd")
    return project


def test_all_that_is_there_comes_as_it_is(project: Path) -> None:
    medium = load(project)
    names = ["bin", "empty", "nowhere", "out", "private", "round", "start", os.fsdecode(b"\xff\n")]
    assert medium.list(".") == names
    assert medium.read_bytes("bin/run") == medium.read_bytes("start") == b"#!\0\xff"
    info = medium.stat("bin/run")
    assert (info.mode, info.modified) == (0o751, 1234.5)
    assert medium.stat("private").mode == 0o700
    assert medium.list("empty") == []
    assert medium.read_text(names[-1]) == "odd"
    assert medium.list("round/round") == names
    assert not medium.exists("nowhere")
    with pytest.raises(OutsideSandboxError):
        medium.list("out")


def test_the_real_files_stay_as_they_are(project: Path) -> None:
    medium = load(project)
    medium.write_text("start", "changed")
    medium.delete_all("empty")
    assert medium.read_text("bin/run") == "changed"
    assert (project / "bin/run").read_bytes() == b"#!\0\xff"
    assert (project / "empty").is_dir()


def test_a_write_keeps_the_mode_of_what_was_loaded(project: Path) -> None:
    medium = load(str(project))
    medium.write_text("bin/run", "new")
    assert medium.stat("bin/run").mode == 0o751


def test_an_entry_that_cannot_be_loaded_is_reported_with_its_path(
    tmp_path: Path, project: Path
) -> None:
    with pytest.raises(PathNotFoundError) as missing:
        load(tmp_path / "missing")
    assert missing.value.path == f"{tmp_path}/missing"
    with pytest.raises(PathNotDirectoryError):
        load(project / "bin/run")
    os.mkfifo(project / "bin/pipe")
    with pytest.raises(InvalidPathError, match="a pipe") as pipe:
        load(project)
    assert pipe.value.path == f"{project}/bin/pipe"
