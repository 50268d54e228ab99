"""Byte streams to and in the formats gzip and xz."""

from __future__ import annotations

import lzma
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build.blocks import in_order, regroup
from core_infra.build.deflate import BLOCK, Codec, blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from core_infra.build.deflate import Block

_GZIP_HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))
"""No name, no time, no system: nothing of the host."""

_XZ_BLOCK = 12 << 20
_XZ_MAGIC = 6
_XZ_HEADER = 12
_XZ_FOOTER = 12


def gzip(chunks: Iterable[bytes], codec: Codec, threads: int) -> Iterator[bytes]:
    """Pack a stream as one gzip member."""
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
    """Pack a stream as one xz stream of many blocks, as ``xz -T`` does.

    Each block is packed as a stream of its own, taken out of it, and told of in one index at the
    end; see https://tukaani.org/xz/xz-file-format.txt, sections 2 and 4.
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
        if one.block:  # of nothing there is no block
            records.append(one.record)
    index = b"\0" + _number(len(records)) + b"".join(records)
    index += b"\0" * (-len(index) % 4)
    yield index + struct.pack("<I", zlib.crc32(index))
    tail = struct.pack("<I", len(index) // 4) + header[_XZ_MAGIC : _XZ_MAGIC + 2]
    yield struct.pack("<I", zlib.crc32(tail)) + tail + b"YZ"


def _record(stream: bytes, index: int) -> bytes:
    """The two numbers that the index has of its only block; empty if it has none."""
    if stream[index + 1] == 0:
        return b""
    start = end = index + 2
    for _ in range(2):
        while stream[end] & 0x80:
            end += 1
        end += 1
    return stream[start:end]


def _number(value: int) -> bytes:
    """A number in seven bits a byte, the lowest first."""
    digits = bytearray()
    while value >= 0x80:  # noqa: PLR2004 - what fits in seven bits
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))
