"""Writes an ext4 file system that holds a tree, as the bytes of a disk.

No program of Debian 12 does this without extracting the tree with the rights of its owners first
(``mke2fs -d`` reads archives from e2fsprogs 1.47.1 on, if it was compiled with libarchive), so this
is our own. The layout is the simplest that Linux and e2fsck accept. There is a journal, so the file
system is whole after a power failure. Equal trees give equal bytes.

The format: Linux's ``Documentation/filesystems/ext4``; of the journal, ``fs/jbd2``.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import stat
import struct
from typing import TYPE_CHECKING

from core_infra.vm._images.disk.copying import copy_range, open_source, write_all
from core_infra.vm._images.disk.ext4_layout import (
    ATTRIBUTES,
    BLOCK,
    DESCRIPTOR,
    EXTRA,
    IN_BLOCK,
    IN_INODE,
    INODE,
    JOURNAL_BLOCKS,
    PER_GROUP,
    Inode,
    Layout,
)
from core_infra.vm._images.disk.xattrs import in_block, in_inode

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._images.disk.tree import Node, Piece

_JOURNAL, _FIRST = 8, 11  # inodes: the journal's, and the first that is not reserved
_EXTENTS = 0x80000
_COMPAT = 0x4 | 0x8 | 0x200  # has_journal, ext_attr, sparse_super2
_INCOMPAT = 0x2 | 0x40 | 0x200  # filetype, extents, flex_bg
_RO_COMPAT = 0x2 | 0x8 | 0x20 | 0x40  # large_file, huge_file, dir_nlink, extra_isize
_OPTIONS = 0x4 | 0x8  # user_xattr, acl
_OPEN = 16  # sources
_EARLIEST, _LATEST = -(1 << 31), (1 << 34) - (1 << 31) - 1


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
        InvalidError: a name, a link, or the attributes of a file are longer than ext4 can hold, or
            a source has changed since the tree was made.
        OSError: the file cannot be written, or a source of a file's content cannot be read.
    """
    layout = Layout(tree, free)
    with path.open("w+b", buffering=0) as file:
        file.truncate(layout.blocks * BLOCK)
        _Writer(file.fileno(), layout, label.encode()[:16]).write()
    return layout.blocks * BLOCK


class _Writer:
    """Writes what a layout says to an open file of zeros."""

    def __init__(self, fd: int, layout: Layout, label: bytes) -> None:
        self._fd = fd
        self._layout = layout
        self._label = label
        self._sources: dict[Path | str, int] = {}
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
        write_all(self._fd, data, block * BLOCK)

    # -- inodes -----------------------------------------------------------------------------------

    def _write_inode(self, inode: Inode) -> None:
        node = inode.node
        attributes = b""
        if inode.attributes:
            self._at(inode.attributes, in_block(node.xattrs, BLOCK))
        elif node.xattrs:
            attributes = in_inode(node.xattrs, ATTRIBUTES) or b""
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
        at = self._layout.table * BLOCK + (number - 1) * INODE
        write_all(self._fd, data, at)

    def _extents(self, inode: Inode) -> bytes:
        """Write the blocks of an inode's tree of extents; return its root."""
        level = [
            (first, struct.pack("<IHHI", first, count, start >> 32, start & 0xFFFFFFFF))
            for first, start, count in inode.extents
        ]
        tables, depth = iter(inode.tables), 0
        while len(level) > IN_INODE:
            above = []
            for at in range(0, len(level), IN_BLOCK):
                part = level[at : at + IN_BLOCK]
                block = next(tables)
                self._at(block, _extent_node(part, IN_BLOCK, depth))
                entry = struct.pack("<IIHH", part[0][0], block & 0xFFFFFFFF, block >> 32, 0)
                above.append((part[0][0], entry))
            level, depth = above, depth + 1
        return _extent_node(level, IN_INODE, depth)

    def _copy(self, inode: Inode) -> None:
        """Copy a file's content to its blocks."""
        firsts = [first for first, _, _ in inode.extents]
        for piece in inode.node.pieces:
            at, done = piece.at, 0
            while done < piece.size:
                index = bisect.bisect_right(firsts, at // BLOCK) - 1
                first, start, count = inode.extents[index]
                size = min(piece.size - done, (first + count) * BLOCK - at)
                self._copy_piece(piece, done, size, start * BLOCK + at - first * BLOCK)
                at, done = at + size, done + size

    def _copy_piece(self, piece: Piece, skip: int, size: int, target: int) -> None:
        if piece.source is None:
            write_all(self._fd, piece.data[skip : skip + size], target)
            return
        source = self._opened(piece.source, piece.facts)
        copy_range(source, piece.offset + skip, self._fd, target, size, name=str(piece.source))

    def _opened(self, path: Path | str, facts: tuple[int, int, int] | None) -> int:
        """Return a descriptor of a source: a few stay open, since archives have many files."""
        source = self._sources.get(path)
        if source is None:
            if len(self._sources) == _OPEN:
                os.close(self._sources.pop(next(iter(self._sources))))
            source = self._sources[path] = open_source(path, facts)
        return source

    # -- tables -----------------------------------------------------------------------------------

    def _write_journal(self) -> bytes:
        """Write an empty journal; return where its blocks are, as its inode has it."""
        layout = self._layout
        header = struct.pack(">III", 0xC03B3998, 4, 0)
        header += struct.pack(">IIIIII", BLOCK, JOURNAL_BLOCKS, 1, 1, 0, 0)
        header += struct.pack(">III", 0, 0, 0) + self._digest[:16] + struct.pack(">I", 1)
        self._at(layout.journal, header)
        extent = struct.pack("<IHHI", 0, JOURNAL_BLOCKS, 0, layout.journal)
        root = _extent_node([(0, extent)], IN_INODE, 0).ljust(60, b"\0")
        inode = _inode(
            mode=stat.S_IFREG | 0o600,
            owner=(0, 0),
            size=JOURNAL_BLOCKS * BLOCK,
            time=0,
            links=1,
            sectors=JOURNAL_BLOCKS * (BLOCK // 512),
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
            blocks = min(PER_GROUP, layout.blocks - group * PER_GROUP)
            used = min(max(layout.used - group * PER_GROUP, 0), blocks)
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
            blocks = min(PER_GROUP, layout.blocks - group * PER_GROUP)
            used = min(max(layout.used - group * PER_GROUP, 0), blocks)
            inodes = min(max(layout.last_inode - group * layout.per_group, 0), layout.per_group)
            result += struct.pack(
                "<IIIHHHHIHHHH",
                layout.bitmaps + group,
                layout.bitmaps + layout.groups + group,
                layout.table + group * (layout.per_group * INODE // BLOCK),
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
        put(24, "IIIII", 2, 2, PER_GROUP, PER_GROUP, layout.per_group)
        put(44, "IIHHHHHHII", 0, 0, 0, 0xFFFF, 0xEF53, 1, 1, 0, 0, 0)
        put(76, "I", 1)
        put(84, "IHH", _FIRST, INODE, 0)
        put(92, "III16s16s", _COMPAT, _INCOMPAT, _RO_COMPAT, self._digest[:16], self._label)
        put(224, "I", _JOURNAL)
        put(236, "16sBBH", self._digest[16:], 1, 1, DESCRIPTOR)
        put(256, "I", _OPTIONS)
        put(268, "60sII", journal, 0, JOURNAL_BLOCKS * BLOCK)
        put(348, "HHI", EXTRA, EXTRA, 1)  # directories are hashed by signed characters
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
    extra = struct.pack("<HHIIIIIII", EXTRA, 0, epoch, epoch, epoch, seconds, epoch, 0, 0)
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
    bits = (1 << used) - 1 | ((1 << PER_GROUP) - 1) >> size << size
    return bits.to_bytes(BLOCK, "little")
