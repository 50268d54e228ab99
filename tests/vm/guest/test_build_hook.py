"""The build hook compiles the package's C when it must, and asks for a compiler only then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(build_hook: ModuleType, tmp_path: Path) -> Path:
    """A copy of the sources and binaries."""
    assert build_hook.is_fresh(ROOT)
    for program in build_hook.PROGRAMS.values():
        shutil.copytree(ROOT / program.parent, tmp_path / program.parent)
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
    guest = tree / build_hook.PROGRAMS["agent"].parent
    if change in ("edit", "header"):
        path = guest / "agent" / ("main.c" if change == "edit" else "agent.h")
        path.write_text(path.read_text() + "\n")
    elif change == "new":
        (guest / "agent" / "more.c").touch()
    else:
        (guest / "bin" / ("agent-aarch64" if change == "binary" else ".aarch64.stamp")).unlink()
    assert wants(build_hook, tree) == ["ziglang>=0.13"]


@pytest.mark.long
def test_a_build_is_reproducible(build_hook: ModuleType, tree: Path) -> None:
    pytest.importorskip("ziglang")
    binaries = build_hook.binary_path(tree, "agent", "x86_64").parent
    shutil.rmtree(binaries)
    build_hook.build(tree)
    assert build_hook.is_fresh(tree)
    assert sorted(path.name for path in binaries.iterdir()) == [
        *(".aarch64.stamp", ".x86_64.stamp", "agent-aarch64", "agent-x86_64")
    ]
    for name in ("agent-aarch64", "agent-x86_64"):
        assert (binaries / name).read_bytes() == (
            ROOT / build_hook.PROGRAMS["agent"].parent / "bin" / name
        ).read_bytes()


def test_the_compilers_complaint_is_told(build_hook: ModuleType, tree: Path) -> None:
    pytest.importorskip("ziglang")
    (tree / build_hook.PROGRAMS["agent"] / "main.c").write_text("int main(void) { retrun 0; }\n")
    with pytest.raises(RuntimeError, match=r"for x86_64:(?s:.*)main.c:1:(?s:.*)retrun"):
        build_hook.build(tree)
    assert wants(build_hook, tree) == ["ziglang>=0.13"]
