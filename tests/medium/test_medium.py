"""What every medium does: runs against each of them."""

from __future__ import annotations

import io
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from core_infra.medium import (
    DirectoryNotEmptyError,
    FileInfo,
    InvalidPathError,
    InvalidTextError,
    LocalMedium,
    Medium,
    MemoryMedium,
    PathExistsError,
    PathIsDirectoryError,
    PathNotDirectoryError,
    PathNotFoundError,
    copy,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.errors import CoreInfraError

OPERATIONS: dict[str, Callable[[Medium, str], object]] = {
    "read_bytes": lambda m, p: m.read_bytes(p),
    "read_text": lambda m, p: m.read_text(p),
    "open": lambda m, p: m.open(p),
    "write_bytes": lambda m, p: m.write_bytes(p, b"new"),
    "write_text": lambda m, p: m.write_text(p, "new"),
    "create": lambda m, p: m.create(p),
    "append": lambda m, p: m.append(p),
    "stat": lambda m, p: m.stat(p),
    "list": lambda m, p: m.list(p),
    "ensure_dir": lambda m, p: m.ensure_dir(p),
    "rename": lambda m, p: m.rename(p, "elsewhere"),
    "rename to": lambda m, p: m.rename("file", p),
    "delete": lambda m, p: m.delete(p),
    "delete_all": lambda m, p: m.delete_all(p),
    "exists": lambda m, p: m.exists(p),
    "is_file": lambda m, p: m.is_file(p),
    "is_dir": lambda m, p: m.is_dir(p),
}
READS = ["read_bytes", "read_text", "open"]
WRITES = ["write_bytes", "write_text", "create", "append"]


@pytest.fixture
def filled(medium: Medium) -> Medium:
    medium.write_bytes("file", b"old")
    medium.write_bytes("dir/inner", b"x")
    medium.ensure_dir("empty")
    return medium


@pytest.mark.parametrize("data", [b"", b"a\r\nb\n", bytes(range(256)) * 1000])
def test_bytes_come_back_as_written(medium: Medium, data: bytes) -> None:
    medium.write_bytes("f", data)
    assert medium.read_bytes("f") == data


@pytest.mark.parametrize("text", ["", "grüße ☃\n", "a\r\nb\rc\n"])
def test_text_is_utf8_and_keeps_its_line_ends(medium: Medium, text: str) -> None:
    medium.write_text("f", text)
    assert medium.read_text("f") == text
    assert medium.read_bytes("f") == text.encode()


def test_text_that_is_not_utf8_is_told_from_a_missing_file(medium: Medium) -> None:
    medium.write_bytes("f", b"ab\xff")
    with pytest.raises(InvalidTextError, match="byte 2 is not UTF-8") as caught:
        medium.read_text("f")
    assert isinstance(caught.value, ValueError)
    assert (caught.value.path, caught.value.offset) == ("f", 2)


def test_text_without_utf8_form_is_refused_and_nothing_is_written(medium: Medium) -> None:
    with pytest.raises(InvalidTextError):
        medium.write_text("f", "a\ud800")
    assert not medium.exists("f")


def test_writing_makes_parents_and_replaces(medium: Medium) -> None:
    medium.write_text("a/b/c", "long old content")
    medium.write_text("a/b/c", "new")
    assert medium.read_text("a/b/c") == "new"
    assert medium.list("a") == ["b"]


def test_a_new_file_and_directory_have_the_usual_modes(medium: Medium) -> None:
    medium.write_text("d/f", "")
    assert (medium.stat("d").mode, medium.stat("d/f").mode) == (0o755, 0o644)


def test_a_mode_is_set_as_given_and_kept_by_later_writes(medium: Medium) -> None:
    medium.write_text("f", "1", mode=0o4777)
    assert medium.stat("f").mode == 0o777
    medium.write_text("f", "2")
    assert medium.stat("f").mode == 0o777
    medium.write_text("f", "3", mode=0o600)
    with medium.append("f") as writer:
        writer.write(b"4")
    assert medium.stat("f").mode == 0o600


def test_stat_describes_files_and_directories(filled: Medium) -> None:
    info = filled.stat("dir/inner")
    assert info == FileInfo("inner", 1, 0o644, info.modified, is_dir=False)
    assert abs(time.time() - info.modified) < 3600
    info = filled.stat("./dir/")
    assert info == FileInfo("dir", 0, 0o755, info.modified, is_dir=True)
    assert filled.stat(".").name == "."


def test_list_is_sorted_by_code_points(medium: Medium) -> None:
    for name in ["b", "a", "B", "é", "10", "9", ".hidden", "a b", "z\n"]:
        medium.write_text(f"d/{name}", "")
    assert medium.list("d") == [".hidden", "10", "9", "B", "a", "a b", "b", "z\n", "é"]


def test_what_is_there_is_told_apart(filled: Medium) -> None:
    def kinds(path: str) -> tuple[bool, bool, bool]:
        return filled.exists(path), filled.is_file(path), filled.is_dir(path)

    assert kinds("file") == (True, True, False)
    assert kinds("dir") == (True, False, True)
    assert kinds(".") == (True, False, True)
    assert kinds("missing") == kinds("file/x") == kinds("no/such") == (False, False, False)


@pytest.mark.parametrize("path", ["./a/b", "a//b", "a/./b", "a/b/", "x/../a/b", "a/b/c/.."])
def test_a_path_may_be_written_in_many_ways(medium: Medium, path: str) -> None:
    medium.write_text(path, "1")
    assert medium.read_text("a/b") == medium.read_text(path) == "1"
    assert (medium.list("."), medium.list("a")) == (["a"], ["b"])
    medium.delete(path)
    assert medium.list("a") == []


@pytest.mark.parametrize("name", ["..foo", "...", ".f", "a b", "\n", "\\", "ü" * 127, "n" * 255])
def test_unusual_names_are_names(medium: Medium, name: str) -> None:
    medium.write_text(f"d/{name}", "1")
    assert medium.list("d") == [name]
    assert medium.stat(f"d/{name}").name == name


@pytest.mark.parametrize(
    "path", ["", "\0", "a/b\0", "n" * 256, "ü" * 128, "a/" * 2500, "\ud800", ".core-infra-tmp-1"]
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_path_that_cannot_be_is_refused_by_every_operation(
    filled: Medium, operation: str, path: str
) -> None:
    with pytest.raises(InvalidPathError) as caught:
        OPERATIONS[operation](filled, path)
    assert caught.value.path == path
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("path", ["missing", "dir/missing", "no/such/path"])
@pytest.mark.parametrize("operation", [*READS, "stat", "list", "rename", "delete"])
def test_a_missing_path_is_not_found(filled: Medium, operation: str, path: str) -> None:
    with pytest.raises(PathNotFoundError) as caught:
        OPERATIONS[operation](filled, path)
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.path == path
    assert path in str(caught.value)


@pytest.mark.parametrize("operation", [*READS, *WRITES])
@pytest.mark.parametrize("path", ["dir", "empty", ".", "/"])
def test_a_directory_is_no_file(filled: Medium, operation: str, path: str) -> None:
    with pytest.raises(PathIsDirectoryError) as caught:
        OPERATIONS[operation](filled, path)
    assert isinstance(caught.value, IsADirectoryError)


@pytest.mark.parametrize("operation", [*READS, *WRITES, "stat", "list", "ensure_dir", "delete"])
@pytest.mark.parametrize("path", ["file/x", "file/x/y"])
def test_a_file_is_no_directory(filled: Medium, operation: str, path: str) -> None:
    with pytest.raises(PathNotDirectoryError) as caught:
        OPERATIONS[operation](filled, path)
    assert isinstance(caught.value, NotADirectoryError)
    assert filled.read_bytes("file") == b"old"


@pytest.mark.parametrize("operation", ["list", "ensure_dir"])
def test_a_file_cannot_be_listed_or_made_a_directory(filled: Medium, operation: str) -> None:
    with pytest.raises(PathNotDirectoryError):
        OPERATIONS[operation](filled, "file")


def test_create_shows_the_file_when_it_is_closed(filled: Medium) -> None:
    writer = filled.create("new/file")
    writer.write(b"half")
    writer.flush()
    assert not filled.exists("new/file")
    assert filled.list("new") == []
    writer.close()
    writer.close()
    assert filled.read_bytes("new/file") == b"half"


def test_create_keeps_the_old_file_when_its_block_fails(filled: Medium) -> None:
    def fail() -> None:
        with filled.create("file") as writer:
            writer.write(b"x" * 200_000)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert filled.read_bytes("file") == b"old"
    assert filled.list(".") == ["dir", "empty", "file"]


def test_a_writer_that_is_never_closed_warns_and_writes_nothing(filled: Medium) -> None:
    with pytest.warns(ResourceWarning, match="never closed"):
        filled.create("file").write(b"half")
    assert filled.read_bytes("file") == b"old"


def test_a_closed_writer_takes_no_more(medium: Medium) -> None:
    with medium.create("f") as writer:
        pass
    with pytest.raises(ValueError, match="closed file"):
        writer.write(b"x")


def test_create_can_be_sought_in_so_that_archives_can_be_written(medium: Medium) -> None:
    with medium.create("a.tar") as raw, tarfile.open(fileobj=raw, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("member"), io.BytesIO())
    with medium.open("a.tar") as raw, tarfile.open(fileobj=raw) as tar:
        assert tar.getnames() == ["member"]
    with medium.create("f") as raw:
        raw.write(b"abc")
        raw.seek(1)
        raw.write(b"B")
    assert medium.read_bytes("f") == b"aBc"


def test_append_adds_to_what_is_there(medium: Medium) -> None:
    for piece in (b"1", b"2"):
        with medium.append("log/f") as writer:
            writer.write(piece)
    assert medium.read_bytes("log/f") == b"12"
    assert medium.stat("log/f").size == 2


def test_append_shows_what_is_flushed_and_two_can_append(medium: Medium) -> None:
    with medium.append("f") as first, medium.append("f") as second:
        assert medium.read_bytes("f") == b""
        for writer in (first, second, first):
            writer.write(b"x")
            writer.flush()
        assert medium.read_bytes("f") == b"xxx"


def test_append_keeps_what_was_written_before_a_failure(medium: Medium) -> None:
    def fail() -> None:
        with medium.append("f") as writer:
            writer.write(b"kept")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert medium.read_bytes("f") == b"kept"


def test_a_reader_keeps_the_version_that_it_opened(filled: Medium) -> None:
    with filled.open("file") as reader:
        filled.write_bytes("file", b"changed")
        filled.delete("file")
        assert reader.read() == b"old"


def test_a_reader_reads_lines_and_pieces(medium: Medium) -> None:
    medium.write_bytes("f", b"1\n2\n3")
    with medium.open("f") as reader:
        assert next(reader) == b"1\n"
        assert reader.read(1) == b"2"
        reader.seek(-1, io.SEEK_END)
        assert reader.read() == b"3"


def test_rename_replaces_a_file_and_makes_parents(filled: Medium) -> None:
    filled.rename("file", "dir/inner")
    assert filled.read_bytes("dir/inner") == b"old"
    assert not filled.exists("file")
    filled.rename("dir/inner", "new/place/name")
    assert filled.stat("new/place/name").name == "name"
    assert filled.list("dir") == []


def test_rename_moves_a_directory_with_all_that_is_in_it(medium: Medium) -> None:
    medium.write_text("a/b/c", "1")
    medium.ensure_dir("a/d")
    medium.rename("a", "z")
    assert not medium.exists("a")
    assert not medium.exists("a/b/c")
    assert medium.list("z") == ["b", "d"]
    assert medium.read_text("z/b/c") == "1"
    assert medium.stat("z").name == "z"


def test_rename_to_itself_changes_nothing(filled: Medium) -> None:
    filled.rename("file", "./file")
    filled.rename("dir", "dir/")
    assert filled.read_bytes("file") == b"old"
    assert filled.list("dir") == ["inner"]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("file", "dir", PathExistsError),
        ("file", "empty", PathExistsError),
        ("dir", "empty", PathExistsError),
        ("dir", "file", PathExistsError),
        ("dir", "dir/inner", InvalidPathError),
        ("dir", "dir/x/y", InvalidPathError),
        ("file", "file/x", PathNotDirectoryError),
        ("dir/inner", "file/x", PathNotDirectoryError),
        (".", "x", InvalidPathError),
        ("file", "/", InvalidPathError),
    ],
)
def test_a_rename_that_cannot_be_changes_nothing(
    filled: Medium, old: str, new: str, error: type[CoreInfraError]
) -> None:
    with pytest.raises(error, match="rename"):
        filled.rename(old, new)
    assert filled.list(".") == ["dir", "empty", "file"]
    assert filled.list("dir") == ["inner"]
    assert filled.read_bytes("file") == b"old"


def test_delete_takes_a_file_and_an_empty_directory(filled: Medium) -> None:
    filled.delete("file")
    filled.delete("empty")
    assert filled.list(".") == ["dir"]


def test_delete_refuses_a_directory_with_entries(filled: Medium) -> None:
    with pytest.raises(DirectoryNotEmptyError) as caught:
        filled.delete("dir")
    assert isinstance(caught.value, OSError)
    assert caught.value.needed == "an empty directory"
    assert filled.list("dir") == ["inner"]


def test_delete_all_takes_everything_and_minds_nothing_missing(filled: Medium) -> None:
    filled.write_text("dir/sub/deep", "1")
    for path in ("dir", "dir", "file", "no/such", "empty/x"):
        filled.delete_all(path)
    assert filled.list(".") == ["empty"]
    filled.write_text("dir/again", "1")
    assert filled.list("dir") == ["again"]


@pytest.mark.parametrize("operation", ["delete", "delete_all", "rename"])
@pytest.mark.parametrize("path", [".", "dir/.."])
def test_the_root_stays(filled: Medium, operation: str, path: str) -> None:
    with pytest.raises(InvalidPathError, match="the root"):
        OPERATIONS[operation](filled, path)
    assert filled.list(".") == ["dir", "empty", "file"]


def test_ensure_dir_makes_parents_and_keeps_what_is_there(filled: Medium) -> None:
    filled.ensure_dir("a/b/c")
    filled.ensure_dir("dir")
    assert filled.is_dir("a/b/c")
    assert filled.list("dir") == ["inner"]


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
