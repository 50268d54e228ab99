"""The initrd's archive, read back by a parser that shares nothing with the writer."""

import shutil
import stat
import subprocess
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.errors import AlreadyExistsError, InvalidError
from core_infra.vm._images.initrd import (
    Entry,
    character_device,
    cpio,
    directory,
    file,
    symlink,
)
from kernel_packages import read_cpio

NAMES = st.text("abcé.-", min_size=1, max_size=6).filter(lambda name: name not in {".", ".."})
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=40), max_size=8
).filter(
    lambda tree: not any(b.startswith(f"{a}/") for a in tree for b in tree)  # no file in a file
)


@given(TREES, st.randoms())
def test_every_file_comes_back_after_its_directories_whatever_the_order(
    tree: dict[str, bytes], random: Random
) -> None:
    entries = [file(path, data) for path, data in tree.items()]
    archive = cpio(entries)
    random.shuffle(entries)
    assert cpio(entries) == archive
    members = read_cpio(archive)
    assert {m.name: m.data for m in members if stat.S_ISREG(m.mode)} == tree
    seen = {"."}
    for member in members:
        assert str(Path(member.name).parent) in seen, "the kernel can't make it yet"
        seen.add(member.name)
    assert len({member.inode for member in members}) == len(members), "equal ones are hard links"
    assert {member.mtime for member in members} <= {0}


def test_every_kind_keeps_its_mode_owner_and_number() -> None:
    by_name = {
        member.name: member
        for member in read_cpio(
            cpio(
                [
                    directory("/tmp", 0o1777),
                    directory("home/tester", owner=(1000, 1001)),
                    file("sbin/init", b"#!", 0o755),
                    symlink("bin/sh", "busybox"),
                    character_device("dev/console", 5, 1),
                ]
            )
        )
    }
    assert by_name["tmp"].mode == stat.S_IFDIR | 0o1777
    assert by_name["home/tester"].owner == (1000, 1001)
    assert by_name["home"].mode == stat.S_IFDIR | 0o755
    assert by_name["sbin/init"].mode == stat.S_IFREG | 0o755
    assert by_name["bin/sh"].mode == stat.S_IFLNK | 0o777
    assert by_name["bin/sh"].data == b"busybox"
    assert by_name["dev/console"].mode == stat.S_IFCHR | 0o600
    assert by_name["dev/console"].device == (5, 1)


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio is not installed")
def test_cpio_lists_it() -> None:
    archive = cpio([file("a/b", b"1"), symlink("a/c", "b")])
    done = subprocess.run(["cpio", "-t"], input=archive, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["a", "a/b", "a/c"]


def test_two_files_at_one_path_are_refused() -> None:
    with pytest.raises(AlreadyExistsError, match="two files at /etc/passwd"):
        cpio([file("etc/passwd", b"1"), file("/etc//passwd", b"2")])


@pytest.mark.parametrize("path", ["", "/", "../x", "a/../../x", "a\0b", "TRAILER!!!"])
def test_a_path_that_the_archive_cannot_hold_is_refused(path: str) -> None:
    with pytest.raises(InvalidError):
        cpio([Entry(path, stat.S_IFREG)])
