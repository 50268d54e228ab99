"""Writes a tree of files as a tar archive, with attributes and hard links."""

from __future__ import annotations

import stat
import tarfile
from typing import TYPE_CHECKING, BinaryIO

from core_infra.vm._images.disk.tree import walk
from core_infra.vm._images.linuxkit.cpio import content

if TYPE_CHECKING:
    from core_infra.vm._images.disk.tree import Node

_XATTR = "SCHILY.xattr."
_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def write_tar(root: Node, file: BinaryIO) -> None:
    """Write a tree; the content is copied from where it lies. Times are 0."""
    first: dict[int, str] = {}
    size = 0
    for path, node in walk(root):
        name = _text(path.lstrip(b"/"))
        if not name:
            continue
        entry = tarfile.TarInfo(name)
        entry.type = _KINDS[stat.S_IFMT(node.mode)]
        entry.mode, entry.uid, entry.gid = stat.S_IMODE(node.mode), node.uid, node.gid
        entry.devmajor, entry.devminor = node.device
        entry.pax_headers = {f"{_XATTR}{_text(key)}": _text(v) for key, v in node.xattrs.items()}
        if (known := first.setdefault(id(node), name)) != name:
            entry.type, entry.linkname = tarfile.LNKTYPE, known
        elif node.is_link:
            entry.linkname = _text(node.target)
        elif node.is_file:
            entry.size = node.size
        head = entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        size += file.write(head)
        if entry.size:
            for piece in content(node):
                size += file.write(piece)
        size += file.write(bytes(-size % tarfile.BLOCKSIZE))
    file.write(bytes(2 * tarfile.BLOCKSIZE + -(size + 1024) % tarfile.RECORDSIZE))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
