"""Forks of a tree in memory share no change, and their difference can be read."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.medium import LocalMedium, Medium, MemoryMedium, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def original() -> MemoryMedium:
    medium = MemoryMedium()
    medium.write_text("dir/f", "one\ntwo\n")
    medium.write_text("dir/sub/g", "g")
    medium.ensure_dir("empty")
    with medium.append("log") as log:
        log.write(b"1")
    return medium


def contents(medium: Medium, path: str = ".") -> dict[str, object]:
    found: dict[str, object] = {}
    for name in medium.list(path):
        inner = f"{path}/{name}"
        info = medium.stat(inner)
        found[inner] = (info.name, info.mode, info.is_dir or medium.read_bytes(inner))
        found |= contents(medium, inner) if info.is_dir else {}
    return found


def append(medium: Medium, path: str) -> None:
    with medium.append(path) as writer:
        writer.write(b"+")


CHANGES: dict[str, Callable[[Medium], None]] = {
    "replace a file": lambda m: m.write_text("dir/f", "changed"),
    "add a file": lambda m: m.write_text("dir/new", "x"),
    "add a deep file": lambda m: m.write_text("dir/a/b/c", "x"),
    "append to a file": lambda m: append(m, "dir/f"),
    "append to a log": lambda m: append(m, "log"),
    "replace a log": lambda m: m.write_text("log", "x"),
    "delete a file": lambda m: m.delete("dir/f"),
    "delete a log": lambda m: m.delete("log"),
    "delete a tree": lambda m: m.delete_all("dir"),
    "rename a file": lambda m: m.rename("dir/f", "empty/f"),
    "rename a tree": lambda m: m.rename("dir", "moved"),
    "rename over a log": lambda m: m.rename("dir/f", "log"),
    "rename a log": lambda m: m.rename("log", "dir/log"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("in_fork", [True, False])
def test_a_change_is_seen_by_the_one_that_made_it_only(
    original: MemoryMedium, change: str, *, in_fork: bool
) -> None:
    before = contents(original)
    fork = original.fork()
    changed, other = (fork, original) if in_fork else (original, fork)
    CHANGES[change](changed)
    assert contents(other) == before
    after = contents(changed)
    assert after != before
    grandchild = other.fork()
    CHANGES[change](other)
    assert (contents(other), contents(changed), contents(grandchild)) == (after, after, before)


names = st.sampled_from(["dir", "dir/f", "dir/sub", "log", "new", "dir/new/deep"])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "append", "delete", "rename", "fork"]),
            names,
            names,
            st.integers(0, 9),
        ),
        max_size=30,
    )
)
@settings(max_examples=60)
def test_forks_behave_like_trees_that_were_never_forked(
    steps: list[tuple[str, str, str, int]],
) -> None:
    forks, copies = [MemoryMedium()], [MemoryMedium()]
    for what, path, to, number in steps:
        which = number % len(forks)
        if what == "fork":
            forks.append(forks[which].fork())
            archive = io.BytesIO()
            pack(copies[which], ".", archive)
            archive.seek(0)
            copies.append(MemoryMedium())
            unpack(archive, copies[-1], ".")
            continue
        for medium in (forks[which], copies[which]):
            try:
                if what == "write":
                    medium.write_text(path, str(number))
                elif what == "append":
                    append(medium, path)
                elif what == "delete":
                    medium.delete_all(path)
                else:
                    medium.rename(path, to)
            except CoreInfraError:
                continue  # and so it must be in the other
    assert [contents(medium) for medium in forks] == [contents(medium) for medium in copies]


def test_forking_copies_nothing_until_something_changes(original: MemoryMedium) -> None:
    fork = original.fork()
    assert fork._tree.nodes is original._tree.nodes
    fork.write_text("new", "x")
    assert fork._tree.nodes is not original._tree.nodes


def test_an_open_writer_goes_on_where_it_was_opened(original: MemoryMedium) -> None:
    with original.append("log") as one, original.append("log") as two:
        fork = original.fork()
        for writer in (one, two, one):
            writer.write(b"+")
            writer.flush()
        original.rename("log", "moved")
        second = original.fork()
        two.write(b"2")
    assert original.read_bytes("moved") == b"1+++2"
    assert fork.read_bytes("log") == b"1"
    assert second.read_bytes("moved") == b"1+++"


def test_a_writer_of_a_deleted_file_changes_no_fork(original: MemoryMedium) -> None:
    with original.append("log") as writer:
        fork = original.fork()
        original.delete("log")
        writer.write(b"+")
    assert not original.exists("log")
    assert fork.read_bytes("log") == b"1"


def test_forks_made_while_others_write_are_whole() -> None:
    medium = MemoryMedium()
    medium.ensure_dir("d")
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            medium.write_text(f"d/{number % 50}", "x")
            medium.delete_all(f"d/{(number + 25) % 50}")
            number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(300):
            fork = medium.fork()
            before = contents(fork)
            fork.write_text("mark", "")
            assert not medium.exists("mark")
            assert contents(fork).keys() - {"./mark"} == before.keys()
    finally:
        stop.set()
        thread.join()


def test_the_difference_tells_what_was_added_removed_and_changed(original: MemoryMedium) -> None:
    fork = original.fork()
    assert not original.diff(fork)
    assert str(original.diff(fork)) == "no difference"
    fork.write_text("dir/f", "one\n2\n")
    fork.write_text("dir/run", "#!", mode=0o755)
    fork.write_text("dir/sub/g", "g", mode=0o600)
    fork.delete("empty")
    fork.delete("log")
    fork.ensure_dir("log")
    difference = original.diff(fork)
    assert difference
    assert difference.added == ("dir/run",)
    assert difference.removed == ("empty",)
    assert difference.changed == ("dir/f", "dir/sub/g", "log")
    assert str(difference).splitlines() == [
        "~ dir/f (8 → 6 bytes)",
        "    @@ -1,2 +1,2 @@",
        "     one",
        "    -two",
        "    +2",
        "+ dir/run (2 bytes)",
        "~ dir/sub/g (mode 644 → 600)",
        "- empty/",
        "~ log (1 byte) → log/",
    ]


def test_the_difference_of_binary_and_of_long_texts_stays_short() -> None:
    one = MemoryMedium()
    one.write_bytes("binary", b"\0\xff")
    one.write_text("long", "".join(f"{n}\n" for n in range(100)))
    other = one.fork()
    other.write_bytes("binary", b"\0\xfe")
    other.write_text("long", "".join(f"{-n}\n" for n in range(100)))
    lines = str(one.diff(other)).splitlines()
    assert lines[0] == "~ binary (2 → 2 bytes)"
    assert len(lines) == 23
    assert lines[-1].endswith("more lines")


def test_times_are_no_difference(original: MemoryMedium) -> None:
    fork = original.fork()
    fork.write_text("dir/f", "one\ntwo\n")
    fork.write_text("dir/x", "")
    fork.delete("dir/x")
    assert not original.diff(fork)


def packed(medium: Medium, path: str = ".") -> bytes:
    archive = io.BytesIO()
    pack(medium, path, archive)
    return archive.getvalue()


def test_an_archive_brings_the_tree_back_in_any_medium(
    tmp_path: Path, original: MemoryMedium
) -> None:
    strange = os.fsdecode(b"\xff") + "\n" + "n" * 200
    original.write_bytes(f"dir/{strange}", b"x" * 100_000, mode=0o700)
    local, back = LocalMedium(tmp_path), MemoryMedium()
    unpack(io.BytesIO(packed(original)), local, "a/b")
    unpack(io.BytesIO(packed(local, "a/b")), back, ".")
    assert not original.diff(back)
    assert packed(original) == packed(back) == packed(local, "a/b")


def archive_of(name: str, kind: bytes) -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "elsewhere"
        tar.addfile(member)
    archive.seek(0)
    return archive


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("../x", tarfile.REGTYPE, "leads out"),
        ("/x", tarfile.REGTYPE, "leads out"),
        ("a/../../x", tarfile.DIRTYPE, "leads out"),
        ("x", tarfile.SYMTYPE, "neither"),
        ("x", tarfile.FIFOTYPE, "neither"),
    ],
)
def test_a_member_that_cannot_be_is_refused(name: str, kind: bytes, why: str) -> None:
    medium = MemoryMedium()
    with pytest.raises(InvalidError, match=why):
        unpack(archive_of(name, kind), medium, "in")
    assert not medium.exists("x")


def test_an_invalid_archive_is_refused() -> None:
    with pytest.raises(InvalidError, match="cannot unpack"):
        unpack(io.BytesIO(b"no tar" * 200), MemoryMedium(), ".")
