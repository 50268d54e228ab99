"""What was built once is copied, as long as nothing that can influence it has changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build_samples import copy_sample, need, tree
from core_infra.build._artifact import Target
from core_infra.build._build_cache import carry_out_cached
from core_infra.build._errors import BuildFailedError
from core_infra.build._preflight import make_plan

if TYPE_CHECKING:
    from core_infra.build._pipeline import BuildResult
    from core_infra.build._plan import BuildPlan

LINUX = Target("linux", "amd64")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose every build leaves a line in a file that is not among its artifacts."""
    need("task")
    project = copy_sample("taskfile", tmp_path / "project")
    taskfile = project / "Taskfile.yml"
    line = f"      - echo x >> {tmp_path}/builds\n"
    taskfile.write_text(taskfile.read_text().replace("    sources:", f"{line}    sources:"))
    return project


def plan(project: Path, number: int, version: str = "", name: str = "tool") -> BuildPlan:
    output = project.parent / f"dist-{number}"
    return make_plan(
        project, goal="package", output=output, targets=[LINUX], version=version, name=name
    )


def builds(project: Path) -> int:
    return len((project.parent / "builds").read_text().splitlines())


def test_the_same_is_built_once_and_each_has_files_of_its_own(
    project: Path, tmp_path: Path
) -> None:
    first = carry_out_cached(plan(project, 1), tmp_path / "cache")
    assert first.program().is_file()
    Path(first.artifact().path).write_text("spoiled by a test")
    os.utime(project / "greeter.sh", (1, 1))

    second = carry_out_cached(plan(project, 2), tmp_path / "cache")

    assert builds(project) == 1
    names = ["CHECKSUMS.txt", "linux_amd64/tool", "manifest.json"]
    assert sorted(tree(second.directory)) == [*names, "tool_linux_amd64.tar.gz"]
    assert [path.name for path in second.documents] == ["manifest.json", "CHECKSUMS.txt"]
    assert second.artifact().checksum == first.artifact().checksum
    assert Path(second.artifact().path).read_bytes()[:2] == b"\x1f\x8b"
    assert os.access(second.program(), os.X_OK)


def test_what_can_influence_a_build_makes_it_another(project: Path, tmp_path: Path) -> None:
    def build(number: int, version: str = "", name: str = "tool") -> BuildResult:
        return carry_out_cached(plan(project, number, version, name), tmp_path / "cache")

    build(1)
    build(2, version="2")
    build(3, name="other")
    (project / "greeter.sh").chmod(0o755)
    build(4)
    (project / "greeter.sh").write_text("#!/bin/sh\n")
    build(5)
    assert builds(project) == 5
    build(6, version="2")
    assert builds(project) == 6
    build(7)
    assert builds(project) == 6


def test_a_failure_is_not_remembered(project: Path, tmp_path: Path) -> None:
    taskfile = (project / "Taskfile.yml").read_text()
    switch = f"test -e {tmp_path}/works"
    (project / "Taskfile.yml").write_text(taskfile.replace("- mkdir", f"- {switch}\n      - mkdir"))
    with pytest.raises(BuildFailedError):
        carry_out_cached(plan(project, 1), tmp_path / "cache")
    (tmp_path / "works").touch()
    assert carry_out_cached(plan(project, 1), tmp_path / "cache").program().is_file()


def test_a_copy_into_the_cache_that_was_cut_short_is_made_anew(
    project: Path, tmp_path: Path
) -> None:
    carry_out_cached(plan(project, 1), tmp_path / "cache")
    (entry,) = (tmp_path / "cache").glob("*/")
    entry.rename(entry.with_suffix(".unfinished"))
    carry_out_cached(plan(project, 2), tmp_path / "cache")
    assert builds(project) == 2
    assert [path.name for path in (tmp_path / "cache").glob("*/")] == [entry.name]


def test_unused_entries_are_deleted(project: Path, tmp_path: Path) -> None:
    carry_out_cached(plan(project, 1), tmp_path / "cache")
    (entry,) = (tmp_path / "cache").glob("*/")
    os.utime(entry, (1, 1))
    carry_out_cached(plan(project, 2, version="2"), tmp_path / "cache")
    assert not entry.exists()
