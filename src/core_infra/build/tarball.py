"""Tar streams with nothing of the host in them."""

from __future__ import annotations

import stat
import tarfile
from typing import TYPE_CHECKING

from core_infra.build.content import MemberReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.build.content import Contents
    from core_infra.build.members import Member

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
}


def tar(contents: Contents) -> Iterator[bytes]:
    """Pack members as a POSIX tar stream: owner 0, one time for all."""
    size = 0
    for member in contents.members:
        header = _header(member, contents.epoch)
        yield header
        reader = MemberReader(contents.medium, member)
        yield from reader
        padding = -member.size % tarfile.BLOCKSIZE
        yield b"\0" * padding
        contents.entries.append(reader.entry)
        size += len(header) + member.size + padding
    end = 2 * tarfile.BLOCKSIZE
    yield b"\0" * (end + -(size + end) % tarfile.RECORDSIZE)


def _header(member: Member, epoch: int) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.type = _TYPES[stat.S_IFMT(member.mode)]
    info.mode = stat.S_IMODE(member.mode)
    info.size = member.size
    info.linkname = member.link
    info.mtime = epoch
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
