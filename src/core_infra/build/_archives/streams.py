"""Streams in the formats tar, gzip and xz."""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zlib
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._archives.contents import MemberReader
from core_infra.build._archives.deflate import BLOCK, Codec, blocks, in_order, regroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from core_infra.build._archives.contents import Contents, Member
    from core_infra.build._archives.deflate import Block


_GZIP_HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))
"""Without name, time and operating system: independent of the host."""

_XZ_BLOCK = 12 << 20
_XZ_MAGIC = 6
_XZ_HEADER = 12
_XZ_FOOTER = 12


def gzip(chunks: Iterable[bytes], codec: Codec, threads: int) -> Iterator[bytes]:
    """Compress a stream as one gzip member."""
    crc = size = 0

    def watched() -> Iterator[Block]:
        nonlocal crc, size
        for block in blocks(regroup(chunks, BLOCK)):
            crc = codec.crc32(block.data, crc)
            size += len(block.data)
            yield block

    yield _GZIP_HEADER
    yield from in_order(codec.deflate, watched(), threads)
    yield struct.pack("<II", crc, size & 0xFFFFFFFF)


class _XzBlock(NamedTuple):
    header: bytes
    block: bytes
    record: bytes


def xz(chunks: Iterable[bytes], preset: int, threads: int) -> Iterator[bytes]:
    """Compress a stream as one xz stream of many blocks, as ``xz -T`` does.

    Each block is compressed as a separate stream and extracted from it; one index at the end lists
    all. See https://tukaani.org/xz/xz-file-format.txt, sections 2 and 4.
    """

    def pack(piece: tuple[bytes, bool]) -> _XzBlock:
        stream = lzma.compress(piece[0], lzma.FORMAT_XZ, lzma.CHECK_CRC64, preset)
        backward = struct.unpack_from("<I", stream, len(stream) - _XZ_FOOTER + 4)[0]
        index = len(stream) - _XZ_FOOTER - (backward + 1) * 4
        return _XzBlock(stream[:_XZ_HEADER], stream[_XZ_HEADER:index], _record(stream, index))

    header, records = b"", []
    for one in in_order(pack, regroup(chunks, _XZ_BLOCK), threads):
        if not header:
            header = one.header
            yield header
        yield one.block
        if one.block:  # an empty stream has no block
            records.append(one.record)
    index = b"\0" + _number(len(records)) + b"".join(records)
    index += b"\0" * (-len(index) % 4)
    yield index + struct.pack("<I", zlib.crc32(index))
    tail = struct.pack("<I", len(index) // 4) + header[_XZ_MAGIC : _XZ_MAGIC + 2]
    yield struct.pack("<I", zlib.crc32(tail)) + tail + b"YZ"


def _record(stream: bytes, index: int) -> bytes:
    """The two numbers of the only block in the index; empty if there is no block."""
    if stream[index + 1] == 0:
        return b""
    start = end = index + 2
    for _ in range(2):
        while stream[end] & 0x80:
            end += 1
        end += 1
    return stream[start:end]


def _number(value: int) -> bytes:
    """Encode a number with seven bits per byte, the lowest first."""
    digits = bytearray()
    while value >= 0x80:  # noqa: PLR2004 - seven bits
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))


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
