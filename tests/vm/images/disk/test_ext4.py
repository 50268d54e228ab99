"""ext4 as we write it: e2fsck has no complaint, and Linux finds the same tree in it."""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.ext4 import write_ext4
from core_infra.vm._images.disk.tree import Node, Piece, directory, text_file

if TYPE_CHECKING:
    from core_infra.vm import Launcher

needs_e2fsck = pytest.mark.skipif(shutil.which("e2fsck") is None, reason="e2fsck is not installed")


def check(disk: Path) -> None:
    done = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("?")) == (0, 0), done.stdout


def debugfs(disk: Path, command: str) -> str:
    done = subprocess.run(
        ["debugfs", "-R", command, disk], capture_output=True, text=True, check=True
    )
    return done.stdout


def file(data: bytes, mode: int = 0o644) -> Node:
    return Node(stat.S_IFREG | mode, size=len(data), pieces=(Piece(0, len(data), data=data),))


NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from([b"user.a", b"user.longer-name", b"security.capability", b"trusted.x"]),
    st.binary(max_size=600),
)
TARGETS = st.binary(min_size=1, max_size=300).filter(lambda target: b"\0" not in target)
LEAVES = st.one_of(
    st.builds(
        lambda data, mode, mtime, xattrs, uid: Node(
            stat.S_IFREG | mode,
            uid=uid,
            gid=uid,
            mtime=mtime,
            size=len(data),
            pieces=(Piece(0, len(data), data=data),) if data else (),
            xattrs=xattrs,
        ),
        st.binary(max_size=9000),
        st.integers(0, 0o7777),
        st.integers(-(1 << 31), 1 << 33),  # e2fsck takes later ones for earlier ones
        ATTRIBUTES,
        st.integers(0, (1 << 32) - 1),
    ),
    st.builds(lambda to: Node(stat.S_IFLNK | 0o777, target=to), TARGETS),
    st.builds(
        lambda kind, device: Node(kind | 0o600, device=device),
        st.sampled_from([stat.S_IFCHR, stat.S_IFBLK]),
        st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1)),
    ),
)


def folder(entries: dict[bytes, Node]) -> Node:
    node = directory()
    node.entries = entries
    return node


TREES = st.recursive(
    LEAVES,
    lambda below: st.builds(folder, st.dictionaries(NAMES, below, max_size=6)),
    max_leaves=12,
)


@needs_e2fsck
@settings(deadline=None, max_examples=40)
@given(st.dictionaries(NAMES, TREES, max_size=5), st.integers(0, 64 << 20))
def test_any_tree_is_a_whole_file_system(entries: dict[bytes, Node], free: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name, "disk")
        size = write_ext4(disk, folder(entries), free=free)
        assert disk.stat().st_size == size >= free
        check(disk)


@needs_e2fsck
def test_many_entries_links_and_extents(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 4096)
    root = directory()
    root.entries[b"many"] = folder(
        {b"%05d" % n + b"x" * (n % 60): text_file("") for n in range(5000)}
    )
    root.entries[b"deep"] = node = directory()
    for _ in range(200):
        node.entries[b"d"] = node = directory()
    shared = text_file("shared")
    root.entries[b"links"] = folder({b"%d" % n: shared for n in range(300)})
    pieces = tuple(
        Piece(n << 20, 100, source, n) for n in range(2000)
    )  # a block each: three levels
    root.entries[b"holes"] = Node(stat.S_IFREG | 0o644, size=1 << 33, pieces=pieces)

    disk = tmp_path / "disk"
    write_ext4(disk, root, free=0)

    check(disk)
    assert "Links: 300 " in debugfs(disk, "stat /links/7")
    assert disk.stat().st_blocks * 512 < 64 << 20


def test_equal_trees_give_equal_bytes(tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        disk = tmp_path / str(number)
        write_ext4(disk, folder({b"b": text_file("x"), b"a": directory()}), free=1 << 20)
        digests.add(hashlib.sha256(disk.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "node", "message"),
    [
        (b"x" * 256, text_file(""), "it has 256 bytes, and ext4 holds 255"),
        (b"l", Node(stat.S_IFLNK, target=b"x" * 4096), "symbolic link is too long"),
        (b"a", Node(stat.S_IFREG, xattrs={b"user.a": b"x" * 5000}), r"attributes .* too large"),
        (b"a", Node(stat.S_IFREG, xattrs={b"odd.a": b"x"}), "'odd.a' cannot be kept"),
    ],
)
def test_what_ext4_cannot_hold_is_one_clear_error(
    tmp_path: Path, name: bytes, node: Node, message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        write_ext4(tmp_path / "disk", folder({name: node}), free=0)


def test_linux_finds_the_same_tree(tmp_path: Path, launcher: Launcher) -> None:
    acl = bytes.fromhex(
        "02000000 01000600ffffffff 02000400e8030000"
        "04000400ffffffff 10000400ffffffff 20000000ffffffff"
    )
    middle = Piece(1 << 29, 3, data=b"mid")
    root = folder(
        {
            b"plain": file(b"hello" * 3000, 0o4751),
            b"late": Node(stat.S_IFREG | 0o600, uid=70000, gid=80000, mtime=5_000_000_000),
            b"short": Node(stat.S_IFLNK | 0o777, target=b"plain"),
            b"long": Node(stat.S_IFLNK | 0o777, target=b"x" * 100),
            b"null": Node(stat.S_IFCHR | 0o666, device=(1, 3)),
            b"wide": Node(stat.S_IFBLK | 0o600, device=(259, 70000)),
            b"acl": Node(stat.S_IFREG | 0o640, xattrs={b"system.posix_acl_access": acl}),
            b"sparse": Node(stat.S_IFREG | 0o644, size=1 << 30, pieces=(middle,)),
        }
    )
    root.entries[b"again"] = root.entries[b"plain"]
    disk = tmp_path / "disk.raw"
    write_ext4(disk, root, free=8 << 20, label="tests")

    with launcher.clone(disks=[disk]) as machine:
        machine.exec("modprobe ext4; mount /dev/vda /mnt", check=True)
        shown = machine.exec(
            "cd /mnt && stat -c '%n %F %a %u %g %Y %t %T %s' late short long null wide sparse",
            check=True,
        ).stdout.splitlines()
        assert shown == [
            "late regular empty file 600 70000 80000 5000000000 0 0 0",
            "short symbolic link 777 0 0 0 0 0 5",
            "long symbolic link 777 0 0 0 0 0 100",
            "null character special file 666 0 0 0 1 3 0",
            "wide block special file 600 0 0 0 103 11170 0",
            "sparse regular file 644 0 0 0 0 0 1073741824",
        ]
        same = "[ /mnt/plain -ef /mnt/again ] && sha256sum </mnt/again"
        digest = hashlib.sha256(b"hello" * 3000).hexdigest()
        assert machine.exec(same, check=True).stdout == f"{digest}  -\n"
        assert (
            machine.exec("dd if=/mnt/sparse bs=1 skip=536870912 count=4 2>/dev/null").stdout
            == "mid\0"
        )
        machine.exec("echo new >/mnt/new && sync && umount /mnt", check=True)
        assert (
            "recovery"
            not in machine.exec("mount /dev/vda /mnt && dmesg | tail -3; cat /mnt/new").stdout
        )
