"""What only the medium in memory has."""

from __future__ import annotations

import threading

import pytest

from core_infra.medium import InvalidPathError, MemoryMedium


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "./.."])
def test_nothing_is_above_the_root(path: str) -> None:
    medium = MemoryMedium()
    for operation in (medium.stat, medium.ensure_dir, medium.exists, medium.delete_all):
        with pytest.raises(InvalidPathError, match="above the root"):
            operation(path)


def test_absolute_and_relative_paths_are_the_same() -> None:
    medium = MemoryMedium()
    medium.write_text("/a/b", "1")
    medium.write_text("//a/c", "2")
    assert medium.read_text("a/b") == "1"
    assert medium.list("/") == medium.list(".") == ["a"]
    assert medium.list("a") == ["b", "c"]
    with pytest.raises(InvalidPathError, match="the root"):
        medium.delete_all("/")


def test_two_media_share_nothing() -> None:
    one, other = MemoryMedium(), MemoryMedium()
    one.write_text("f", "1")
    assert not other.exists("f")


def test_what_is_written_is_not_changed_through_the_callers_buffer() -> None:
    medium = MemoryMedium()
    buffer = bytearray(b"abc")
    medium.write_bytes("f", buffer)  # type: ignore[arg-type]  # not every caller checks types
    buffer[0] = 0
    assert medium.read_bytes("f") == b"abc"


def test_appending_follows_a_renamed_file_and_not_its_replacement() -> None:
    medium = MemoryMedium()
    with medium.append("log") as writer:
        writer.write(b"1")
        writer.flush()
        medium.rename("log", "log.1")
        medium.write_bytes("log", b"fresh")
        writer.write(b"2")
    assert medium.read_bytes("log.1") == b"12"
    assert medium.read_bytes("log") == b"fresh"


def test_threads_leave_a_whole_tree() -> None:
    medium = MemoryMedium()

    def work(number: int) -> None:
        for turn in range(300):
            medium.write_text(f"shared/{turn % 7}/{number}", "x")
            medium.delete_all(f"shared/{(turn + 3) % 7}")
            with medium.append("log") as writer:
                writer.write(b"x")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert medium.stat("log").size == 1200
    for name in medium.list("shared"):
        for inner in medium.list(f"shared/{name}"):
            assert medium.read_text(f"shared/{name}/{inner}") == "x"
    medium.delete_all("shared")
    assert medium.list(".") == ["log"]
