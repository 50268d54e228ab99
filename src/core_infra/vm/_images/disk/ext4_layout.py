"""Where everything is in an ext4 file system that holds a tree.

All tables are at the front (``flex_bg``), the superblock has no backups (``sparse_super2``), and
files follow one another, so the used blocks are all those before one, and so are the inodes.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._images.disk.tree import directory
from core_infra.vm._images.disk.xattrs import in_inode

if TYPE_CHECKING:
    from core_infra.vm._images.disk.tree import Node

BLOCK = 4096
PER_GROUP = 8 * BLOCK
"""Blocks of a group: as many as a bitmap of one block has bits."""
INODE = 256
"""Bytes of an inode."""
EXTRA = 32
"""Bytes of an inode after its first 128, before its extended attributes."""
ATTRIBUTES = INODE - 128 - EXTRA
"""Bytes of an inode for extended attributes."""
DESCRIPTOR = 32
"""Bytes of a group's descriptor."""
JOURNAL_BLOCKS = 4096
IN_INODE, IN_BLOCK = 4, (BLOCK - 12) // 12
"""How many extents fit into an inode, and into a block."""
_ROOT, _LOST = 2, 11
_RATIO = 16 << 10  # bytes of the disk for each inode
_SPARE = 1024  # inodes that are free at least
_LONGEST_EXTENT = 0x8000
_FAST_LINK = 60
_LONGEST_NAME = 255
_MAX_LINKS = 65000
_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}

_Extent = tuple[int, int, int]
"""Of a file: its first block there, its first block on the disk, how many blocks."""


@dataclass(eq=False)
class Inode:
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
        return (blocks + bool(self.attributes)) * (BLOCK // 512)

    def runs(self) -> list[tuple[int, int]]:
        """Return which of its blocks have content: each first one, and how many follow."""
        if self.content:
            return [(0, _blocks(len(self.content)))]
        runs: list[tuple[int, int]] = []
        for piece in self.node.pieces:
            first, end = piece.at // BLOCK, _blocks(piece.at + piece.size)
            if runs and first <= sum(runs[-1]):
                begin, _ = runs.pop()
                runs.append((begin, max(end, first) - begin))
            else:
                runs.append((first, end - first))
        return runs


class Layout:
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
            self.groups = -(-self.blocks // PER_GROUP)
            wanted = max(self.last_inode + _SPARE, self.blocks * BLOCK // _RATIO)
            self.per_group = min(-(-wanted // self.groups) + 15 & ~15, PER_GROUP)
            self.bitmaps = 1 + _blocks(self.groups * DESCRIPTOR)
            self.table = self.bitmaps + 2 * self.groups
            self.journal = self.table + self.groups * self.per_group * INODE // BLOCK
            needed = self.journal + JOURNAL_BLOCKS + room
            if self.groups * self.per_group < wanted:
                self.blocks += PER_GROUP
            elif needed <= self.blocks:
                break
            else:
                self.blocks = needed
        self.used = self.journal + JOURNAL_BLOCKS
        for inode in self.inodes:
            self._place(inode)

    def _place(self, inode: Inode) -> None:
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


def _numbered(tree: Node) -> list[Inode]:
    """Number the nodes in the order of their paths, count their names, and list directories."""
    lost = tree.entries.setdefault(b"lost+found", directory(0o700))
    top = Inode(_ROOT, tree, links=2)
    found = {id(tree): top, id(lost): Inode(_LOST, lost)}
    waiting = [(top, node) for _, node in sorted(tree.entries.items(), reverse=True)]
    number = _LOST
    while waiting:
        parent, node = waiting.pop()
        inode = found.get(id(node))
        if inode is None:
            number += 1
            inode = found[id(node)] = Inode(number, node)
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
            if len(inode.content) >= BLOCK:
                why = f"it has {len(inode.content)} bytes, and ext4 holds {BLOCK - 1}"
                raise InvalidError("the target of a symbolic link is too long", why=why)
    return inodes


def _listing(inode: Inode, found: dict[int, Inode]) -> bytes:
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
        if len(blocks) % BLOCK + size > BLOCK:
            _fill_block(blocks, last)
        last = len(blocks)
        blocks += struct.pack("<IHBB", number, size, len(name), _TYPES[stat.S_IFMT(mode)])
        blocks += name + bytes(-len(name) % 4)
    _fill_block(blocks, last)
    return bytes(blocks)


def _fill_block(blocks: bytearray, last: int) -> None:
    """Fill a directory's last block: its last entry reaches to the end."""
    struct.pack_into("<H", blocks, last + 4, BLOCK - last % BLOCK)
    blocks += bytes(-len(blocks) % BLOCK)


def _needed(inode: Inode) -> int:
    """Return how many blocks an inode takes."""
    runs = inode.runs()
    tables = _tables(sum(-(-count // _LONGEST_EXTENT) for _, count in runs))
    return sum(count for _, count in runs) + tables + _needs_block(inode.node)


def _tables(extents: int) -> int:
    """Return how many blocks a tree of so many extents has; up to four are in the inode."""
    total = 0
    while extents > IN_INODE:
        extents = -(-extents // IN_BLOCK)
        total += extents
    return total


def _needs_block(node: Node) -> bool:
    return bool(node.xattrs) and in_inode(node.xattrs, ATTRIBUTES) is None


def _blocks(size: int) -> int:
    return -(-size // BLOCK)
