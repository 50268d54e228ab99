"""The way through a tree's symbolic links: as the kernel's in a directory that is the root."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.tree import (
    Node,
    directory,
    find_directory,
    make_directory,
    split,
    text_file,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENAT2 = 437  # on all architectures
RESOLVE_IN_ROOT = 0x10
C = ctypes.CDLL(None, use_errno=True)


class How(ctypes.Structure):
    """The kernel's ``struct open_how``."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in(root: int, path: bytes) -> int:
    """Open a directory in another as if that were the root; return the error's number below 0."""
    how = How(os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)
    file: int = C.syscall(OPENAT2, root, path or b".", ctypes.byref(how), ctypes.sizeof(how))
    return file if file >= 0 else -ctypes.get_errno()


def symlink(target: bytes) -> Node:
    return Node(stat.S_IFLNK | 0o777, target=target)


NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(st.one_of(NAMES, st.just(b".."), st.just(b".")), max_size=4).map(b"/".join)
LEAVES = st.one_of(
    st.builds(symlink, st.builds(bytes.__add__, st.sampled_from([b"", b"/"]), PATHS).filter(bool)),
    st.builds(text_file, st.just("")),
)


def filled(entries: dict[bytes, Node]) -> Node:
    node = directory()
    node.entries = entries
    return node


TREES = st.recursive(
    LEAVES, lambda below: st.dictionaries(NAMES, below, max_size=3).map(filled), max_leaves=12
)
ROOTS = st.dictionaries(NAMES, TREES, max_size=3).map(filled)


def written(root: Node, place: bytes) -> None:
    for path, node in walk(root):
        if node.is_link:
            os.symlink(node.target, place + path)  # noqa: PTH211 - bytes
        elif node.is_dir:
            os.makedirs(place + path, exist_ok=True)  # noqa: PTH103 - bytes
        else:
            Path(os.fsdecode(place + path)).touch()


def places(root: Node) -> dict[int, bytes]:
    return {id(node): path for path, node in walk(root)}


def shown(root: Node) -> dict[bytes, int]:
    return {path: id(node) for path, node in walk(root)}


@pytest.fixture(scope="module", autouse=True)
def _openat2() -> None:
    if open_in(os.open("/", os.O_PATH), b".") == -errno.ENOSYS:
        pytest.skip("the kernel has no openat2")


@settings(deadline=None, max_examples=300)
@given(ROOTS, PATHS)
def test_a_directory_is_found_where_the_kernel_finds_it(root: Node, path: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = os.path.realpath(os.fsencode(name))
        written(root, top)
        start = os.open(top, os.O_PATH | os.O_DIRECTORY)
        file = open_in(start, path)
        os.close(start)
        found = find_directory(root, split(path))
        if file >= 0:
            there = os.readlink(f"/proc/self/fd/{file}").encode()  # noqa: PTH115 - of a descriptor
            os.close(file)
            assert found is not None
            assert places(root)[id(found)] == there.removeprefix(top)
        elif file != -errno.ELOOP:  # the kernel follows fewer links
            assert found is None


def reaches(root: Node, path: bytes) -> Iterator[Node]:
    """All that is there already on the way to a path."""
    names = split(path)
    for size in range(len(names) + 1):
        if (node := find_directory(root, names[:size])) is not None:
            yield node


@settings(deadline=None, max_examples=300)
@given(ROOTS, PATHS)
def test_making_a_directory_adds_only_what_is_missing(root: Node, path: bytes) -> None:
    names, before = split(path), shown(root)
    there, way = find_directory(root, names), [*reaches(root, path)]
    passed: list[tuple[int, bytes]] = []
    try:
        made = make_directory(root, names, lambda parent, name: passed.append((id(parent), name)))
    except InvalidError:
        assert there is None
        return
    after = shown(root)
    assert find_directory(root, names) is made
    assert there in (None, made)
    if there is not None:
        assert after == before
    # Nothing is removed but files that became directories; links and directories stay.
    nodes = {id(node): node for _, node in walk(root)}
    for place, node in before.items():
        assert after[place] == node or nodes[after[place]].is_dir
    known = set(before.values())
    for place, node in after.items():
        if node not in known:
            assert nodes[node].is_dir
            parent, _, name = place.rpartition(b"/")
            assert (after[parent], name) in passed
    assert all(id(node) in after.values() for node in way)
    again = make_directory(root, names)
    assert again is made
    assert shown(root) == after


def test_a_circle_leads_nowhere() -> None:
    root = filled({b"a": symlink(b"b"), b"b": symlink(b"/a")})
    assert find_directory(root, [b"a"]) is None
    with pytest.raises(InvalidError, match=r"cannot make the directory '/a/x'.*circle"):
        make_directory(root, [b"a", b"x"])
    assert sorted(root.entries) == [b"a", b"b"]


def test_many_links_are_no_circle() -> None:
    root = filled({b"l0": directory()})
    root.entries |= {b"l%d" % n: symlink(b"l%d" % (n - 1)) for n in range(1, 256)}
    assert find_directory(root, [b"l255"]) is root.entries[b"l0"]
    root.entries[b"l256"] = symlink(b"l255")
    assert find_directory(root, [b"l256"]) is None
