"""Writes a tree of files as a cpio archive, which Linux unpacks at its start, or as a tar archive.

The format of cpio is ``newc``, as in :mod:`core_infra.vm._images.initrd`, which makes small
archives in memory. Here the content is copied from its source while the archive is written, so its
size does not matter. Times are 0 and inode numbers count up: equal trees give equal bytes.
"""

from __future__ import annotations

import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from core_infra._wording import count
from core_infra.errors import InvalidError
from core_infra.vm._images.disk.tree import Node, Piece, directory, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGIC = b"070701"
_TRAILER = b"TRAILER!!!"
_HEAD, _FIELDS = 110, 13
_LARGEST = (1 << 32) - 1
_LONGEST = 4095
"""Bytes of a path, and of a link's target: the kernel ignores an entry with more."""
_CHUNK = 1 << 20
_BLOCK = 512
_WARNED = b"security.capability"
_XATTR = "SCHILY.xattr."
_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def write_cpio(
    root: Node, write: Callable[[bytes], object], warn: Callable[[str], None] = lambda _: None
) -> None:
    """Write a tree.

    Hard links stay hard links: the content is in the archive once, at the first name.

    Args:
        root: the tree. Its own owner and mode are those of ``/``.
        write: takes the archive, in pieces.
        warn: is called with a line of text if the format cannot hold a part of the tree.

    Raises:
        InvalidError: a file, a path or a link is larger than the format or the kernel allows.
    """
    links = _links(root)
    numbers: dict[int, int] = {}
    size = 0
    capable = 0
    for path, node in walk(root):
        name = path.lstrip(b"/") or b"."
        _check(name, node)
        first = id(node) not in numbers
        number = numbers.setdefault(id(node), len(numbers) + 1)
        capable += first and _WARNED in node.xattrs
        data = node.target if node.is_link else b""
        length = (node.size if node.is_file else len(data)) if first else 0
        names = 2 if node.is_dir else links[id(node)]
        size += _write(write, _header(name, node, number, names, length))
        size += _write(write, data if first else b"")
        if first and node.is_file:
            for piece in content(node):
                write(piece)
                size += len(piece)
        size += _write(write, bytes(-size % 4))
    size += _write(write, _header(_TRAILER, Node(0), 0, 1, 0))
    write(bytes(-size % _BLOCK))
    if capable:
        files = count(capable, "file")
        warn(f"an initrd cannot hold file capabilities; those of {files} are left out")


def content(node: Node) -> Iterator[bytes]:
    """Yield the content of a regular file, in pieces of at most a MiB."""
    at = 0
    for piece in node.pieces:
        yield from _zeros(piece.at - at)
        yield from _read(piece)
        at = piece.at + piece.size
    yield from _zeros(node.size - at)


def read_cpio(path: Path) -> Node:
    """Return the tree of an archive that is not packed; its content stays in the file.

    Raises:
        InvalidError: the file is not such an archive.
    """
    root = directory()
    with path.open("rb") as file:
        while True:
            head = file.read(_HEAD)
            if head[:6] != _MAGIC or len(head) < _HEAD:
                raise InvalidError(f"{path} is not an archive of cpio's newc format")
            fields = [int(head[6 + 8 * n : 14 + 8 * n], 16) for n in range(_FIELDS)]
            _, mode, uid, gid, _, _, size, _, _, major, minor, length, _ = fields
            name = file.read(length)[:-1]
            file.seek(-(_HEAD + length) % 4, 1)
            if name == _TRAILER:
                return root
            node = Node(mode, uid, gid, device=(major, minor))
            if node.is_link:
                node.target = file.read(size)
            else:
                node.size = size
                node.pieces = (Piece(0, size, path, file.tell()),) if size else ()
                file.seek(size, 1)
            file.seek(-size % 4, 1)
            *above, last = name.split(b"/")
            place = root
            for part in above:
                place = place.entries[part]
            if name != b".":
                place.entries[last] = node


def write_tar(root: Node, file: BinaryIO) -> None:
    """Write a tree; the content is copied from its source. Times are 0."""
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


def _links(root: Node) -> dict[int, int]:
    found: dict[int, int] = {}
    for _, node in walk(root):
        found[id(node)] = found.get(id(node), 0) + 1
    return found


def _check(name: bytes, node: Node) -> None:
    shown = "/" + name.decode(errors="backslashreplace")
    if name == _TRAILER:
        raise InvalidError(f"an initrd cannot hold {shown}", why="this name ends the archive")
    if len(name) > _LONGEST or len(node.target) > _LONGEST:
        raise InvalidError(f"an initrd cannot hold {shown[:100]}…", why="the path is too long")
    if node.is_file and node.size > _LARGEST:
        raise InvalidError(f"an initrd cannot hold {shown}", why="it is larger than 4 GiB")


def _header(name: bytes, node: Node, number: int, links: int, size: int) -> bytes:
    fields = (
        *(number, node.mode, node.uid, node.gid, links),
        *(0, size, 0, 0, *node.device),  # the time, and the device that it lies on
        *(len(name) + 1, 0),  # a checksum, unused in this format
    )
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name + b"\0"
    return head + bytes(-len(head) % 4)


def _write(write: Callable[[bytes], object], data: bytes) -> int:
    if data:
        write(data)
    return len(data)


def _read(piece: Piece) -> Iterator[bytes]:
    if piece.source is None:
        yield piece.data[: piece.size]
        return
    with Path(piece.source).open("rb") as file:
        file.seek(piece.offset)
        left = piece.size
        while left:
            data = file.read(min(left, _CHUNK))
            if not data:
                raise InvalidError(f"{piece.source} was cut off while it was read")
            left -= len(data)
            yield data


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, _CHUNK))
        count -= _CHUNK


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
