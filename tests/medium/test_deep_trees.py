"""Trees that are deeper than Python's recursion, and paths that are longer than the system's."""

from __future__ import annotations

import io
import itertools
import os
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core_infra.medium import (
    InvalidPathError,
    LocalMedium,
    Medium,
    MemoryMedium,
    OutsideSandboxError,
    SandboxMedium,
    copy,
    load,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPTH = 1100
DEEP = "/".join(["d"] * DEPTH)


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for each directory it takes milliseconds
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest.mark.parametrize("kind", [LocalMedium, MemoryMedium])
def test_a_deep_tree_is_like_any_other(directory: Path, kind: type[Medium]) -> None:
    medium = kind() if kind is MemoryMedium else kind(directory)  # type: ignore[call-arg]
    medium.write_text(f"{DEEP}/f", "x")
    assert medium.read_text(f"{DEEP}/f") == "x"
    other = MemoryMedium()
    copy(medium, "d", other, "d")
    assert other.read_text(f"{DEEP}/f") == "x"
    archive = io.BytesIO()
    pack(medium, ".", archive)
    medium.delete_all("d")
    assert medium.list(".") == []
    archive.seek(0)
    unpack(archive, medium, "e")
    assert medium.is_file(f"e/{DEEP}/f")
    if kind is LocalMedium:
        assert not load(directory / "e").diff(other)
    medium.rename("e/d", "d")
    medium.delete_all("d")
    assert medium.list(".") == ["e"]


@pytest.mark.parametrize("kind", [LocalMedium, SandboxMedium])
def test_a_tree_beyond_the_longest_path_is_deleted_and_else_refused(
    directory: Path, kind: type[LocalMedium]
) -> None:
    here = os.open(directory, os.O_RDONLY)
    for number in range(60):
        os.mkdir(f"{number}" * 50, dir_fd=here)
        inner = os.open(f"{number}" * 50, os.O_RDONLY, dir_fd=here)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        os.close(here)
        here = inner
    os.close(here)
    medium = kind(directory)
    other = MemoryMedium()
    for use in (
        lambda: copy(medium, ".", other, "copy"),
        lambda: pack(medium, ".", io.BytesIO()),
        lambda: load(directory),
    ):
        with pytest.raises(InvalidPathError, match="too long") as caught:
            use()
        assert len(str(caught.value)) < 500
    assert other.list(".") == []
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    medium.delete_all("0" * 50)
    assert list(directory.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_deep_path_is_walked_with_few_descriptors(directory: Path) -> None:
    inside = "/".join(["d"] * 200)
    (directory / inside).mkdir(parents=True)
    (directory / inside / "up").symlink_to("/".join([".."] * 150))
    (directory / inside / "out").symlink_to("/".join([".."] * 201))
    medium = SandboxMedium(directory, by_kernel=False)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    unused = (number for number in itertools.count() if number not in used)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (next(itertools.islice(unused, 60, None)), before[1])
    )
    try:
        medium.write_text(f"{inside}/up/f", "x")
        with pytest.raises(OutsideSandboxError):
            medium.write_text(f"{inside}/out/f", "x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (directory / "/".join(["d"] * 50) / "f").read_text() == "x"


def test_a_copy_whose_paths_become_too_long_writes_nothing(directory: Path) -> None:
    medium = MemoryMedium()
    names = "/".join(["n" * 200] * 20)
    medium.write_text("first", "1")
    medium.write_text(f"{names}/f", "x")
    target = LocalMedium(directory)
    with pytest.raises(InvalidPathError, match="too long"):
        copy(medium, ".", target, "t" * 250)
    assert target.list(".") == []


def test_a_tree_that_is_moved_while_it_is_deleted_is_deleted_no_further(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = LocalMedium(directory)
    inside, outside = "in/" + "/".join(["d"] * 60), "out"
    medium.write_text(f"{inside}/f", "x")
    medium.write_text(f"{outside}/kept", "x")
    real = os.rmdir

    def rmdir(name: str, *, dir_fd: int) -> None:
        real(name, dir_fd=dir_fd)
        if (directory / "in").exists():
            (directory / "in/d/d").rename(directory / "out/d")
            monkeypatch.setattr(os, "rmdir", real)

    monkeypatch.setattr(os, "rmdir", rmdir)
    medium.delete_all("in")
    assert medium.list(".") == ["out"]
    assert medium.list("out") == ["d", "kept"]
