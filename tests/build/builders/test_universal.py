"""Universal programs for macOS, as another reader sees them, and variants of processors."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from macholib.MachO import MachO

from build_samples import need
from core_infra.build import make_plan
from core_infra.build._artifact import Target
from core_infra.build._builders import universal
from core_infra.build._builders.universal import join, join_programs
from core_infra.build._errors import ArtifactError
from core_infra.build._packages.packages import package_problems
from core_infra.build._pipeline import carry_out

if TYPE_CHECKING:
    from pathlib import Path

AMD64, ARM64 = 0x01000007, 0x0100000C


def program(path: Path, processor: int, size: int) -> Path:
    """A Mach-O program of a header and bytes."""
    path.parent.mkdir(exist_ok=True)
    header = struct.pack("<8I", 0xFEEDFACF, processor, 3, 2, 0, 0, 0, 0)
    path.write_bytes(header + os.urandom(size - len(header)))
    return path


def slices(path: Path) -> dict[int, bytes]:
    """The programs in a universal one, by their processors."""
    data = path.read_bytes()
    return {
        one.header.cputype: data[one.offset : one.offset + one.size]
        for one in MachO(str(path)).headers
    }


def test_another_reader_finds_both_programs_unchanged(tmp_path: Path) -> None:
    one = program(tmp_path / "amd64/app", AMD64, 40_000)
    other = program(tmp_path / "arm64/app", ARM64, 100)
    (tmp_path / "out").mkdir()
    join_programs([one.parent, other.parent], tmp_path / "out")
    made = tmp_path / "out/app"
    assert slices(made) == {AMD64: one.read_bytes(), ARM64: other.read_bytes()}
    assert all(one.offset % (1 << 14) == 0 for one in MachO(str(made)).headers)
    assert made.stat().st_mode & 0o777 == 0o755


def test_what_is_no_program_or_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = program(tmp_path / "amd64/app", AMD64, 100)
    script = tmp_path / "script"
    script.write_text("#!/bin/sh")
    for bad, why in ((script, "not a 64-bit Mach-O file"), (tmp_path / "none", "does not exist")):
        with pytest.raises(ArtifactError, match=why):
            join([good, bad], tmp_path / "made")
    monkeypatch.setattr(universal, "_LARGEST", 20_000)
    with pytest.raises(ArtifactError, match="too large for a universal program"):
        join([good, good], tmp_path / "made")
    assert not (tmp_path / "made").exists()


def project(top: Path, settings: str = "") -> Path:
    (top / ".core").mkdir(parents=True)
    (top / ".core/build.yaml").write_text(settings)
    (top / "go.mod").write_text("module example.com/tool\n\ngo 1.21\n")
    (top / "main.go").write_text('package main\n\nfunc main() { println("hi") }\n')
    return top


def test_a_variant_reaches_the_compiler(tmp_path: Path) -> None:
    need("go")
    names = ("linux/armv6", "linux/amd64v3", "linux/amd64", "darwin/universal")
    targets = [Target.parse(name) for name in names]
    plan = make_plan(project(tmp_path / "a"), targets=targets)
    assert plan.problems == ()
    given = [
        tuple(command.env.get(name, "") for name in ("GOARCH", "GOARM", "GOAMD64"))
        for step in plan.steps
        for command in step.commands
    ]
    assert given == [
        ("arm", "6", ""),
        ("amd64", "", "v3"),
        ("amd64", "", ""),
        ("amd64", "", ""),
        ("arm64", "", ""),
    ]
    musl = make_plan(tmp_path / "a", targets=[Target("linux", "amd64_musl")])
    (problem,) = musl.problems
    assert problem.startswith("linux/amd64_musl: Go needs no build for musl.")
    other = project(tmp_path / "b", "build: {env: [GOARM=7]}\n")
    plan = make_plan(other, targets=[Target("linux", "armv6")])
    assert plan.problems == ("build.env sets GOARM=7, but the targets determine it",)


def test_packages_of_variants(tmp_path: Path) -> None:
    need("go")
    settings = "packages: {formats: [deb], maintainer: A <a@example.org>}\n"
    context = make_plan(project(tmp_path / "a", settings), version="v1").context
    good = [Target("linux", name) for name in ("armv5", "armv7", "amd64v3")]
    assert package_problems(context, good) == []
    assert package_problems(context, [Target("linux", "mips")]) == [
        "packages: deb has no name for the architecture mips"
    ]


@pytest.mark.long  # Go compiles its library for three platforms
def test_go_makes_a_universal_program_and_one_for_an_older_arm(tmp_path: Path) -> None:
    need("go")
    targets = [Target("darwin", "universal"), Target("linux", "armv6")]
    made = carry_out(make_plan(project(tmp_path / "a"), targets=targets), twice=True)
    mac = made.program("darwin/universal")
    assert set(slices(mac)) == {AMD64, ARM64}
    plain = carry_out(
        make_plan(tmp_path / "a", targets=[Target("darwin", "arm64")], output=tmp_path / "plain")
    )
    assert slices(mac)[ARM64] == plain.program("darwin/arm64").read_bytes()
    assert made.program("linux/armv6").read_bytes()[18:20] == b"\x28\x00"
