"""The build hook compiles the package's C when it must, and asks for a compiler only then."""

from __future__ import annotations

import platform
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import hatch

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

ROOT = hatch.ROOT


@pytest.fixture(scope="session")
def build_hook() -> ModuleType:
    return hatch.load()


@pytest.fixture
def tree(build_hook: ModuleType, tmp_path: Path) -> Path:
    """A copy of the sources and binaries."""
    assert build_hook.is_fresh(ROOT)
    for directory in (build_hook.SOURCES, build_hook.BINARIES):
        shutil.copytree(ROOT / directory, tmp_path / directory)
    return tmp_path


def wants(build_hook: ModuleType, tree: Path) -> list[str]:
    hook = build_hook.CustomBuildHook(str(tree), {}, None, None, "", "wheel")
    return list(hook.dependencies())


def test_nothing_is_wanted_while_the_binaries_are_fresh(build_hook: ModuleType, tree: Path) -> None:
    binary = build_hook.binary_path(tree, "agent", "x86_64")
    before = binary.stat()
    assert wants(build_hook, tree) == []
    build_hook.build(tree)
    assert binary.stat() == before


@pytest.mark.parametrize("change", ["edit", "header", "new", "binary", "stamp"])
def test_a_change_wants_the_compiler(build_hook: ModuleType, tree: Path, change: str) -> None:
    sources, binaries = tree / build_hook.SOURCES, tree / build_hook.BINARIES
    if change in ("edit", "header"):
        path = sources / "agent" / ("main.c" if change == "edit" else "agent.h")
        path.write_text(path.read_text() + "\n")
    elif change == "new":
        (sources / "agent" / "more.c").touch()
    else:
        name = "agent-aarch64" if change == "binary" else ".agent-aarch64.stamp"
        (binaries / name).unlink()
    assert wants(build_hook, tree) == [build_hook.COMPILER]


def test_a_compiler_that_is_chosen_is_taken_for_what_runs_here(
    build_hook: ModuleType,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("this host has no cc")
    shutil.rmtree(build_hook.binary_path(tree, "reaper", "x86_64").parent)
    monkeypatch.setenv("CORE_INFRA_CC", "cc")
    assert wants(build_hook, tree) == []
    build_hook.build(tree)
    here = platform.machine()
    reaper = build_hook.binary_path(tree, "reaper", here)
    # It says on which descriptors it wants to serve, and ends: it is a program that runs here.
    assert subprocess.run([reaper], check=False, capture_output=True, timeout=60).returncode > 0
    assert [path.name for path in reaper.parent.glob("reaper-*")] == [reaper.name]
    assert "cc does not compile for it" in capsys.readouterr().err


def test_a_compiler_that_is_missing_is_named(
    build_hook: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(build_hook.binary_path(tree, "reaper", "x86_64").parent)
    monkeypatch.setenv("CORE_INFRA_CC", "no-such-cc -O2")
    with pytest.raises(RuntimeError, match="cannot start no-such-cc"):
        build_hook.build(tree)


@pytest.mark.parametrize(
    ("chosen", "programs"),
    [
        ("manylinux_2_31_x86_64", ["forkserver-x86_64.so", "reaper-x86_64", "switch-x86_64"]),
        ("musllinux_1_2_aarch64", ["reaper-aarch64", "switch-aarch64"]),
        ("any", []),
    ],
)
def test_a_wheel_has_what_its_tag_says(
    build_hook: ModuleType,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    chosen: str,
    programs: list[str],
) -> None:
    monkeypatch.setenv("CORE_INFRA_WHEEL", chosen)
    data: dict[str, Any] = {"artifacts": [], "pure_python": True}
    build_hook.CustomBuildHook(str(tree), {}, None, None, "", "wheel").initialize("standard", data)
    names = sorted(path.rpartition("/")[2] for path in data["artifacts"])
    guests = ["agent-aarch64", "agent-x86_64", "init-aarch64", "init-x86_64"]
    assert names == sorted([*guests, *programs])
    assert data.get("tag") == (None if chosen == "any" else f"py3-none-{chosen}")
    assert data["pure_python"] == (chosen == "any")


def test_a_platform_that_there_is_not_is_refused(
    build_hook: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORE_INFRA_WHEEL", "win32")
    with pytest.raises(ValueError, match="'win32', but must be one of manylinux_2_31_x86_64"):
        wants(build_hook, tree)


@pytest.mark.long
def test_a_build_is_reproducible(build_hook: ModuleType, tree: Path) -> None:
    pytest.importorskip("ziglang")
    binaries = build_hook.binary_path(tree, "agent", "x86_64").parent
    shutil.rmtree(binaries)
    build_hook.build(tree)
    assert build_hook.is_fresh(tree)
    assert sorted(path.name for path in binaries.iterdir()) == [
        *(".agent-aarch64.stamp", ".agent-x86_64.stamp"),
        *(".forkserver-aarch64.stamp", ".forkserver-x86_64.stamp"),
        *(".init-aarch64.stamp", ".init-x86_64.stamp"),
        *(".reaper-aarch64.stamp", ".reaper-x86_64.stamp"),
        *(".switch-aarch64.stamp", ".switch-x86_64.stamp"),
        *("agent-aarch64", "agent-x86_64"),
        *("forkserver-aarch64.so", "forkserver-x86_64.so"),
        *("init-aarch64", "init-x86_64"),
        *("reaper-aarch64", "reaper-x86_64"),
        *("switch-aarch64", "switch-x86_64"),
    ]
    for name in ("agent-aarch64", "agent-x86_64", "init-x86_64"):
        assert (binaries / name).read_bytes() == (ROOT / build_hook.BINARIES / name).read_bytes()


def test_the_compilers_complaint_is_told(build_hook: ModuleType, tree: Path) -> None:
    pytest.importorskip("ziglang")
    (tree / build_hook.SOURCES / "agent" / "main.c").write_text("int main(void) { retrun 0; }\n")
    with pytest.raises(RuntimeError, match=r"for x86_64:(?s:.*)main.c:1:(?s:.*)retrun"):
        build_hook.build(tree)
    assert wants(build_hook, tree) == [build_hook.COMPILER]
