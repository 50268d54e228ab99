"""What media do together, and what the contract leaves to each house."""

from __future__ import annotations

import enum
import math
import re
from typing import TYPE_CHECKING, Literal, cast

import pytest

from core_infra.errors import InvalidError
from core_infra.medium import (
    DirectoryNotEmptyError,
    FakeMedium,
    FaultyMedium,
    InvalidPathError,
    InvalidTextError,
    LocalMedium,
    Medium,
    MemoryMedium,
    PathIsDirectoryError,
    PathNotDirectoryError,
    PathNotFoundError,
    copy,
    load,
    pack,
    unpack,
)

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def filled(medium: Medium) -> Medium:
    medium.write_bytes("file", b"old")
    medium.write_bytes("dir/inner", b"x")
    medium.ensure_dir("empty")
    return medium


def test_errors_are_those_that_python_knows_too(filled: Medium) -> None:
    for builtin, kind, operation in (
        (FileNotFoundError, PathNotFoundError, lambda: filled.read_text("missing")),
        (IsADirectoryError, PathIsDirectoryError, lambda: filled.read_text("dir")),
        (NotADirectoryError, PathNotDirectoryError, lambda: filled.list("file")),
        (ValueError, InvalidPathError, lambda: filled.list("\0")),
        (OSError, DirectoryNotEmptyError, lambda: filled.delete("dir")),
    ):
        with pytest.raises(builtin) as caught:
            operation()
        assert isinstance(caught.value, kind)


def test_text_that_is_not_utf8_tells_where(medium: Medium) -> None:
    medium.write_bytes("f", b"ab\xff")
    with pytest.raises(InvalidTextError, match="byte 2 is not UTF-8") as caught:
        medium.read_text("f")
    assert (caught.value.path, caught.value.offset) == ("f", 2)


def test_a_full_directory_tells_the_state_it_needed(filled: Medium) -> None:
    with pytest.raises(DirectoryNotEmptyError) as caught:
        filled.delete("dir")
    assert caught.value.needed == "an empty directory"


def test_the_slash_is_the_root(filled: Medium) -> None:
    for operation in (filled.read_bytes, filled.open, filled.create, filled.append):
        with pytest.raises(PathIsDirectoryError):
            operation("/")
    for refused in (filled.delete, filled.delete_all):
        with pytest.raises(InvalidPathError, match="the root"):
            refused("/")


@pytest.mark.parametrize("path", [".core-infra-tmp-1", "a/.core-infra-tmp-/b"])
def test_names_for_unfinished_files_are_refused(medium: Medium, path: str) -> None:
    for operation in (medium.read_bytes, medium.create, medium.ensure_dir, medium.list):
        with pytest.raises(InvalidPathError, match="unfinished"):
            operation(path)


def test_a_closed_writer_takes_no_more(medium: Medium) -> None:
    with medium.create("f") as writer:
        pass
    with pytest.raises(ValueError, match="closed file"):
        writer.write(b"x")


def test_a_writer_that_is_never_closed_warns(filled: Medium) -> None:
    with pytest.warns(ResourceWarning, match="never closed"):
        filled.create("file").write(b"half")


@pytest.mark.parametrize("direction", ["local to memory", "memory to local", "within"])
def test_copy_takes_content_modes_and_empty_directories(tmp_path: Path, direction: str) -> None:
    local, memory = LocalMedium(tmp_path), MemoryMedium()
    source, target = (local, memory) if direction == "local to memory" else (memory, local)
    if direction == "within":
        target = source
    source.write_bytes("a/run", b"#!" * 100_000, mode=0o755)
    source.write_bytes("a/sub/secret", b"s", mode=0o600)
    source.ensure_dir("a/empty")
    target.write_text("to/a/other", "stays")
    copy(source, "a", target, "to/a")
    assert target.list("to/a") == ["empty", "other", "run", "sub"]
    assert target.read_bytes("to/a/run") == b"#!" * 100_000
    assert target.stat("to/a/run").mode == 0o755
    assert target.stat("to/a/sub/secret").mode == 0o600


def test_copy_of_one_file_and_of_nothing(filled: Medium) -> None:
    copy(filled, "file", MemoryMedium(), "x")
    copy(filled, "file", filled, "file")
    assert filled.read_bytes("file") == b"old"
    with pytest.raises(PathNotFoundError):
        copy(filled, "missing", filled, "x")


class Flag(enum.IntEnum):
    PRIVATE = 0o600


WRONG: list[tuple[str, Callable[[Medium], object]]] = [
    ("mode '644'", lambda medium: medium.write_text("f", "x", mode=cast("int", "644"))),
    ("mode True", lambda medium: medium.write_bytes("f", b"x", mode=True)),
    ("mode -1", lambda medium: medium.create("f", mode=-1)),
    ("mode 65536", lambda medium: medium.write_bytes("f", b"x", mode=1 << 16)),
    ("'int'", lambda medium: medium.write_bytes("f", cast("bytes", 5))),
    ("type 'str': it must be bytes", lambda medium: medium.write_bytes("f", cast("bytes", "x"))),
    ("type 'bytes' as text", lambda medium: medium.write_text("f", cast("str", b"x"))),
    ("source is None", lambda medium: copy(cast("Medium", None), "f", medium, "g")),
    ("target is <class", lambda medium: copy(medium, "f", cast("Medium", MemoryMedium), "g")),
    ("archive is None", lambda medium: pack(medium, ".", cast("io.BytesIO", None))),
    ("archive is 'x'", lambda medium: unpack(cast("io.BytesIO", "x"), medium, ".")),
    ("medium is 5", lambda _: FaultyMedium(cast("Medium", 5))),
    ("plan is 5", lambda medium: FaultyMedium(medium, plan=cast("str", 5))),
    ("seed is 'x'", lambda medium: FaultyMedium(medium, seed=cast("int", "x"))),
    ("rate is nan", lambda medium: FaultyMedium(medium, seed=1, rate=math.nan)),
    ("a string or a path object, not float", lambda _: LocalMedium(cast("str", 1.5))),
    ("a string or a path object, not int", lambda _: load(cast("str", 5))),
    ("system 'os2'", lambda _: FakeMedium(system=cast("Literal['linux']", "os2"))),
    ("other is None", lambda _: MemoryMedium().diff(cast("MemoryMedium", None))),
]


@pytest.mark.parametrize(("what", "use"), WRONG)
def test_a_wrong_argument_is_one_clear_error_and_changes_nothing(
    filled: Medium, what: str, use: Callable[[Medium], object]
) -> None:
    filled.write_text("f", "old")
    with pytest.raises(InvalidError, match=re.escape(what)):
        use(filled)
    assert filled.read_text("f") == "old"


def test_a_mode_may_be_a_member_of_an_enum(filled: Medium) -> None:
    filled.write_text("f", "x", mode=Flag.PRIVATE)
    assert filled.stat("f").mode == 0o600
