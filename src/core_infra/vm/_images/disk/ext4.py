"""Writes an ext4 file system that holds a tree, as the bytes of a disk.

No program of Debian 12 does this without extracting the tree with the rights of its owners first
(``mke2fs -d`` reads archives from e2fsprogs 1.47.1 on, if it was compiled with libarchive), so this
is our own. The layout is the simplest that Linux and e2fsck accept: all tables are at the front
(``flex_bg``), the superblock has no backups (``sparse_super2``), files follow one another. There is
a journal, so a machine whose power fails finds a whole file system. Equal trees give equal bytes.

The format: Linux's ``Documentation/filesystems/ext4``; of the journal, ``fs/jbd2``.
"""

from __future__ import annotations

import bisect
import errno
import hashlib
import os
import stat
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.tree import directory
from core_infra.vm._images.disk.xattrs import in_block, in_inode

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._images.disk.tree import Node, Piece

_BLOCK = 4096
_PER_GROUP = 8 * _BLOCK
_INODE = 256
_EXTRA = 32  # bytes of an inode after its first 128
_ATTRIBUTES = _INODE - 128 - _EXTRA
_DESCRIPTOR = 32
_JOURNAL_BLOCKS = 4096
_RATIO = 16 << 10  # bytes of the disk for each inode
_LONGEST_EXTENT = 0x8000
_IN_INODE, _IN_BLOCK = 4, (_BLOCK - 12) // 12  # extents
_ROOT, _JOURNAL, _LOST = 2, 8, 11
_FAST_LINK = 60
_LONGEST_NAME = 255
_MAX_LINKS = 65000
_EXTENTS = 0x80000
_SPARE = 1024  # inodes that are free at least
_COMPAT = 0x4 | 0x8 | 0x200  # has_journal, ext_attr, sparse_super2
_INCOMPAT = 0x2 | 0x40 | 0x200  # filetype, extents, flex_bg
_RO_COMPAT = 0x2 | 0x8 | 0x20 | 0x40  # large_file, huge_file, dir_nlink, extra_isize
_OPTIONS = 0x4 | 0x8  # user_xattr, acl
_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
_CHUNK = 4 << 20
_EARLIEST, _LATEST = -(1 << 31), (1 << 34) - (1 << 31) - 1
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

_Extent = tuple[int, int, int]
"""Of a file: its first block there, its first block on the disk, how many blocks."""


def write_ext4(path: Path, tree: Node, *, free: int, label: str = "root") -> int:
    """Write a file system that holds *tree* to a new sparse file.

    Args:
        path: the file; replaced if it exists.
        tree: its root directory.
        free: bytes that can be written to it later, at least.
        label: its name, at most 16 bytes.

    Returns:
        The size of the file system in bytes.

    Raises:
        InvalidError: a name, a link, or the attributes of a file are longer than ext4 can hold.
        OSError: the file cannot be written, or a source of a file's content cannot be read.
    """
    layout = _Layout(tree, free)
    with path.open("w+b", buffering=0) as file:
        file.truncate(layout.blocks * _BLOCK)
        _Writer(file.fileno(), layout, label.encode()[:16]).write()
    return layout.blocks * _BLOCK


@dataclass(eq=False)
class _Inode:
    """A node of the tree on the disk.

    Attributes:
        number: its number.
        node: the node.
        parent: of a directory: the number of the one above.
        links: how many names it has.
        content: what its blocks hold, unless that is a file's content.
        extents: where its blocks are.
        tables: the blocks of its extents' tree.
        attributes: the block of its extended attributes; 0 if there is none.
    """

    number: int
    node: Node
    parent: int = _ROOT
    links: int = 0
    content: bytes = b""
    extents: list[_Extent] = field(default_factory=list)
    tables: range = range(0)
    attributes: int = 0

    @property
    def size(self) -> int:
        """The bytes that ``stat`` reports."""
        if self.node.is_link:
            return len(self.node.target)
        return len(self.content) if self.node.is_dir else self.node.size

    @property
    def sectors(self) -> int:
        """All that belongs to it, in units of 512 bytes."""
        blocks = sum(count for _, _, count in self.extents) + len(self.tables)
        return (blocks + bool(self.attributes)) * (_BLOCK // 512)

    def runs(self) -> list[tuple[int, int]]:
        """Return which of its blocks have content: each first one, and how many follow."""
        if self.content:
            return [(0, _blocks(len(self.content)))]
        runs: list[tuple[int, int]] = []
        for piece in self.node.pieces:
            first, end = piece.at // _BLOCK, _blocks(piece.at + piece.size)
            if runs and first <= sum(runs[-1]):
                begin, _ = runs.pop()
                runs.append((begin, max(end, first) - begin))
            else:
                runs.append((first, end - first))
        return runs


class _Layout:
    """Decides where everything is.

    Attributes:
        inodes: all that the tree has, by their numbers: 2, 11, 12 and so on.
        blocks: of the file system.
        groups: how many.
        per_group: inodes of each group.
        bitmaps: the first block of the blocks' bitmaps; those of the inodes follow.
        table: the first block of the inodes' tables.
        journal: the first block of the journal.
        used: blocks that are used: all before this one.
    """

    def __init__(self, tree: Node, free: int) -> None:
        self.inodes = _numbered(tree)
        self.last_inode = self.inodes[-1].number
        data = sum(_needed(inode) for inode in self.inodes)
        room = data + _blocks(free)
        self.blocks = room
        while True:
            self.groups = -(-self.blocks // _PER_GROUP)
            wanted = max(self.last_inode + _SPARE, self.blocks * _BLOCK // _RATIO)
            self.per_group = min(-(-wanted // self.groups) + 15 & ~15, _PER_GROUP)
            self.bitmaps = 1 + _blocks(self.groups * _DESCRIPTOR)
            self.table = self.bitmaps + 2 * self.groups
            self.journal = self.table + self.groups * self.per_group * _INODE // _BLOCK
            needed = self.journal + _JOURNAL_BLOCKS + room
            if self.groups * self.per_group < wanted:
                self.blocks += _PER_GROUP
            elif needed <= self.blocks:
                break
            else:
                self.blocks = needed
        self.used = self.journal + _JOURNAL_BLOCKS
        for inode in self.inodes:
            self._place(inode)

    def _place(self, inode: _Inode) -> None:
        if _needs_block(inode.node):
            inode.attributes = self.used
            self.used += 1
        tables = _tables(sum(-(-count // _LONGEST_EXTENT) for _, count in inode.runs()))
        inode.tables = range(self.used, self.used + tables)
        self.used += tables
        for first, count in inode.runs():
            for start in range(0, count, _LONGEST_EXTENT):
                length = min(count - start, _LONGEST_EXTENT)
                inode.extents.append((first + start, self.used, length))
                self.used += length


def _numbered(tree: Node) -> list[_Inode]:
    """Number the nodes in the order of their paths, count their names, and list directories."""
    lost = tree.entries.setdefault(b"lost+found", directory(0o700))
    top = _Inode(_ROOT, tree, links=2)
    found = {id(tree): top, id(lost): _Inode(_LOST, lost)}
    waiting = [(top, node) for _, node in sorted(tree.entries.items(), reverse=True)]
    number = _LOST
    while waiting:
        parent, node = waiting.pop()
        inode = found.get(id(node))
        if inode is None:
            number += 1
            inode = found[id(node)] = _Inode(number, node)
        inode.links += 1
        if node.is_dir:
            inode.parent = parent.number
            inode.links += 1  # its own "."
            parent.links += 1  # its ".."
            waiting += [(inode, child) for _, child in sorted(node.entries.items(), reverse=True)]
    inodes = sorted(found.values(), key=lambda inode: inode.number)
    for inode in inodes:
        if inode.links >= _MAX_LINKS:
            if not inode.node.is_dir:
                why = f"it has {inode.links}, and ext4 holds {_MAX_LINKS - 1}"
                raise InvalidError("a file has too many names", why=why)
            inode.links = 1  # what Linux writes if there are more than it can count
        if inode.node.is_dir:
            inode.content = _listing(inode, found)
        elif len(inode.node.target) >= _FAST_LINK:
            inode.content = inode.node.target
            if len(inode.content) >= _BLOCK:
                why = f"it has {len(inode.content)} bytes, and ext4 holds {_BLOCK - 1}"
                raise InvalidError("the target of a symbolic link is too long", why=why)
    return inodes


def _listing(inode: _Inode, found: dict[int, _Inode]) -> bytes:
    """Return the blocks of a directory; each entry is as long as the way to the next one."""
    entries = [(inode.number, b".", stat.S_IFDIR), (inode.parent, b"..", stat.S_IFDIR)]
    for name, child in sorted(inode.node.entries.items()):
        if len(name) > _LONGEST_NAME:
            shown = name[:40].decode(errors="backslashreplace")
            why = f"it has {len(name)} bytes, and ext4 holds {_LONGEST_NAME}"
            raise InvalidError(f"the name {shown}… is too long", why=why)
        entries.append((found[id(child)].number, name, child.mode))
    blocks, last = bytearray(), 0
    for number, name, mode in entries:
        size = 8 + (len(name) + 3 & ~3)
        if len(blocks) % _BLOCK + size > _BLOCK:
            _fill_block(blocks, last)
        last = len(blocks)
        blocks += struct.pack("<IHBB", number, size, len(name), _TYPES[stat.S_IFMT(mode)])
        blocks += name + bytes(-len(name) % 4)
    _fill_block(blocks, last)
    return bytes(blocks)


def _fill_block(blocks: bytearray, last: int) -> None:
    """Fill a directory's last block: its last entry reaches to the end."""
    struct.pack_into("<H", blocks, last + 4, _BLOCK - last % _BLOCK)
    blocks += bytes(-len(blocks) % _BLOCK)


def _needed(inode: _Inode) -> int:
    """Return how many blocks an inode takes."""
    runs = inode.runs()
    tables = _tables(sum(-(-count // _LONGEST_EXTENT) for _, count in runs))
    return sum(count for _, count in runs) + tables + _needs_block(inode.node)


def _tables(extents: int) -> int:
    """Return how many blocks a tree of so many extents has; up to four are in the inode."""
    total = 0
    while extents > _IN_INODE:
        extents = -(-extents // _IN_BLOCK)
        total += extents
    return total


def _needs_block(node: Node) -> bool:
    return bool(node.xattrs) and in_inode(node.xattrs, _ATTRIBUTES) is None


def _blocks(size: int) -> int:
    return -(-size // _BLOCK)


class _Writer:
    """Writes what a layout says to an open file of zeros."""

    def __init__(self, fd: int, layout: _Layout, label: bytes) -> None:
        self._fd = fd
        self._layout = layout
        self._label = label
        self._sources: dict[Path, int] = {}
        digest = hashlib.sha256()
        for inode in layout.inodes:
            node = inode.node
            digest.update(repr((inode.number, node.mode, node.size, node.mtime)).encode())
            digest.update(inode.content)
        self._digest = digest.digest()

    def write(self) -> None:
        """Write it all."""
        layout = self._layout
        try:
            for inode in layout.inodes:
                self._write_inode(inode)
        finally:
            for fd in self._sources.values():
                os.close(fd)
        journal = self._write_journal()
        self._write_bitmaps()
        self._write_descriptors()
        self._at(0, bytes(1024) + self._superblock(journal))

    def _at(self, block: int, data: bytes) -> None:
        _write_all(self._fd, data, block * _BLOCK)

    # -- inodes -----------------------------------------------------------------------------------

    def _write_inode(self, inode: _Inode) -> None:
        node = inode.node
        attributes = b""
        if inode.attributes:
            self._at(inode.attributes, in_block(node.xattrs, _BLOCK))
        elif node.xattrs:
            attributes = in_inode(node.xattrs, _ATTRIBUTES) or b""
        flags, root = 0, b""
        if node.is_link and not inode.content:
            root = node.target
        elif stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
            root = _device(*node.device)
        elif node.is_dir or node.is_file or node.is_link:
            flags, root = _EXTENTS, self._extents(inode)
        if inode.content:
            self._at(inode.extents[0][1], inode.content)
        else:
            self._copy(inode)
        self._put(
            inode.number,
            _inode(
                mode=node.mode,
                owner=(node.uid, node.gid),
                size=inode.size,
                time=node.mtime,
                links=inode.links,
                sectors=inode.sectors,
                flags=flags,
                root=root,
                attributes=inode.attributes,
            )
            + attributes,
        )

    def _put(self, number: int, data: bytes) -> None:
        """Write an inode into its table: the tables follow one another."""
        at = self._layout.table * _BLOCK + (number - 1) * _INODE
        _write_all(self._fd, data, at)

    def _extents(self, inode: _Inode) -> bytes:
        """Write the blocks of an inode's tree of extents; return its root."""
        level = [
            (first, struct.pack("<IHHI", first, count, start >> 32, start & 0xFFFFFFFF))
            for first, start, count in inode.extents
        ]
        tables, depth = iter(inode.tables), 0
        while len(level) > _IN_INODE:
            above = []
            for at in range(0, len(level), _IN_BLOCK):
                part = level[at : at + _IN_BLOCK]
                block = next(tables)
                self._at(block, _extent_node(part, _IN_BLOCK, depth))
                entry = struct.pack("<IIHH", part[0][0], block & 0xFFFFFFFF, block >> 32, 0)
                above.append((part[0][0], entry))
            level, depth = above, depth + 1
        return _extent_node(level, _IN_INODE, depth)

    def _copy(self, inode: _Inode) -> None:
        """Copy a file's content to its blocks."""
        firsts = [first for first, _, _ in inode.extents]
        for piece in inode.node.pieces:
            at, done = piece.at, 0
            while done < piece.size:
                index = bisect.bisect_right(firsts, at // _BLOCK) - 1
                first, start, count = inode.extents[index]
                size = min(piece.size - done, (first + count) * _BLOCK - at)
                self._copy_piece(piece, done, size, start * _BLOCK + at - first * _BLOCK)
                at, done = at + size, done + size

    def _copy_piece(self, piece: Piece, skip: int, size: int, target: int) -> None:
        if piece.source is None:
            _write_all(self._fd, piece.data[skip : skip + size], target)
            return
        source = self._sources.get(piece.source)
        if source is None:
            source = self._sources[piece.source] = os.open(piece.source, os.O_RDONLY | os.O_CLOEXEC)
        _copy_range(source, piece.offset + skip, self._fd, target, size)

    # -- tables -----------------------------------------------------------------------------------

    def _write_journal(self) -> bytes:
        """Write an empty journal; return where its blocks are, as its inode has it."""
        layout = self._layout
        header = struct.pack(">III", 0xC03B3998, 4, 0)
        header += struct.pack(">IIIIII", _BLOCK, _JOURNAL_BLOCKS, 1, 1, 0, 0)
        header += struct.pack(">III", 0, 0, 0) + self._digest[:16] + struct.pack(">I", 1)
        self._at(layout.journal, header)
        extent = struct.pack("<IHHI", 0, _JOURNAL_BLOCKS, 0, layout.journal)
        root = _extent_node([(0, extent)], _IN_INODE, 0).ljust(60, b"\0")
        inode = _inode(
            mode=stat.S_IFREG | 0o600,
            owner=(0, 0),
            size=_JOURNAL_BLOCKS * _BLOCK,
            time=0,
            links=1,
            sectors=_JOURNAL_BLOCKS * (_BLOCK // 512),
            flags=_EXTENTS,
            root=root,
            attributes=0,
        )
        self._put(_JOURNAL, inode)
        return root

    def _write_bitmaps(self) -> None:
        """Write which blocks and inodes are used: all up to the last one."""
        layout = self._layout
        for group in range(layout.groups):
            blocks = min(_PER_GROUP, layout.blocks - group * _PER_GROUP)
            used = min(max(layout.used - group * _PER_GROUP, 0), blocks)
            self._at(layout.bitmaps + group, _bitmap(used, blocks))
            used = min(max(layout.last_inode - group * layout.per_group, 0), layout.per_group)
            self._at(layout.bitmaps + layout.groups + group, _bitmap(used, layout.per_group))

    def _write_descriptors(self) -> None:
        layout = self._layout
        directories = [0] * layout.groups
        for inode in layout.inodes:
            directories[(inode.number - 1) // layout.per_group] += inode.node.is_dir
        result = bytearray()
        for group in range(layout.groups):
            blocks = min(_PER_GROUP, layout.blocks - group * _PER_GROUP)
            used = min(max(layout.used - group * _PER_GROUP, 0), blocks)
            inodes = min(max(layout.last_inode - group * layout.per_group, 0), layout.per_group)
            result += struct.pack(
                "<IIIHHHHIHHHH",
                layout.bitmaps + group,
                layout.bitmaps + layout.groups + group,
                layout.table + group * (layout.per_group * _INODE // _BLOCK),
                blocks - used,
                layout.per_group - inodes,
                directories[group],
                *(0, 0, 0, 0, 0, 0),
            )
        self._at(1, bytes(result))

    def _superblock(self, journal: bytes) -> bytes:
        layout = self._layout
        block = bytearray(1024)

        def put(offset: int, form: str, *values: int | bytes) -> None:
            struct.pack_into(f"<{form}", block, offset, *values)

        inodes = layout.groups * layout.per_group
        put(0, "IIII", inodes, layout.blocks, 0, layout.blocks - layout.used)
        put(16, "II", inodes - layout.last_inode, 0)
        put(24, "IIIII", 2, 2, _PER_GROUP, _PER_GROUP, layout.per_group)
        put(44, "IIHHHHHHII", 0, 0, 0, 0xFFFF, 0xEF53, 1, 1, 0, 0, 0)
        put(76, "I", 1)
        put(84, "IHH", _LOST, _INODE, 0)
        put(92, "III16s16s", _COMPAT, _INCOMPAT, _RO_COMPAT, self._digest[:16], self._label)
        put(224, "I", _JOURNAL)
        put(236, "16sBBH", self._digest[16:], 1, 1, _DESCRIPTOR)
        put(256, "I", _OPTIONS)
        put(268, "60sII", journal, 0, _JOURNAL_BLOCKS * _BLOCK)
        put(348, "HHI", _EXTRA, _EXTRA, 1)  # directories are hashed by signed characters
        put(372, "B", max(4, (layout.groups - 1).bit_length()))
        return bytes(block)


def _inode(
    *,
    mode: int,
    owner: tuple[int, int],
    size: int,
    time: int,
    links: int,
    sectors: int,
    flags: int,
    root: bytes,
    attributes: int,
) -> bytes:
    """Return an inode's bytes up to its attributes."""
    uid, gid = owner
    time = min(max(time, _EARLIEST), _LATEST)
    seconds, epoch = time & 0xFFFFFFFF, (time + (1 << 31)) >> 32 & 3
    first = struct.pack(
        "<HHIIIIIHHIII60sIIII",
        *(mode, uid & 0xFFFF, size & 0xFFFFFFFF, seconds, seconds, seconds, 0, gid & 0xFFFF),
        *(links, sectors & 0xFFFFFFFF, flags, 0, root, 0, attributes, size >> 32, 0),
    )
    second = struct.pack("<HHHHHH", sectors >> 32, 0, uid >> 16, gid >> 16, 0, 0)
    extra = struct.pack("<HHIIIIIII", _EXTRA, 0, epoch, epoch, epoch, seconds, epoch, 0, 0)
    return first + second + extra


def _extent_node(entries: list[tuple[int, bytes]], most: int, depth: int) -> bytes:
    header = struct.pack("<HHHHI", 0xF30A, len(entries), most, depth, 0)
    return header + b"".join(data for _, data in entries)


def _device(major: int, minor: int) -> bytes:
    """Return a device's number as Linux stores it: in 16 bits if it fits, else in 32."""
    if major < 256 and minor < 256:  # noqa: PLR2004 - a byte each
        return struct.pack("<II", major << 8 | minor, 0)
    return struct.pack("<II", 0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12)


def _bitmap(used: int, size: int) -> bytes:
    """Return a block of bits: the first *used* of *size* are set, and those that mean nothing."""
    bits = (1 << used) - 1 | ((1 << _PER_GROUP) - 1) >> size << size
    return bits.to_bytes(_BLOCK, "little")


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


def _copy_range(source: int, offset: int, target: int, at: int, size: int) -> None:
    """Copy bytes of one file to another, within the kernel if it can."""
    while size > 0:
        try:
            done = os.copy_file_range(source, target, min(size, 1 << 30), offset, at)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
            data = os.pread(source, min(size, _CHUNK), offset)
            _write_all(target, data, at)
            done = len(data)
        if not done:
            raise InvalidError(
                "a file of the image ends too early", why=f"{size} bytes are missing"
            )
        offset, at, size = offset + done, at + done, size - done
