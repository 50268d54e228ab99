"""Writes zip files in one pass and on all cores.

The standard library's zipfile compresses on one core, and its compressor cannot be chosen.
The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import stat
import struct
import time
import zlib
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._archives.contents import MemberReader
from core_infra.build._archives.deflate import BLOCK, Block, Codec, blocks, in_order, regroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from core_infra.build._archives.contents import Contents, Member

_STORED, _DEFLATED = 0, 8
_SIZES_FOLLOW, _UTF8 = 1 << 3, 1 << 11
_UNIX = 3 << 8
_DIRECTORY = 0x10  # the MS-DOS attribute, for readers without support for Unix modes
_MANY = 0xFFFF
_LARGE = 0xFFFFFFFF
_MAYBE_LARGE = 0xF0000000
"""From this size on, a member gets 64-bit fields: compressed, it could be larger."""
_VERSION, _VERSION_64 = 20, 45
_BATCH = 256
FIRST_TIME = 315532800
"""1980-01-01: the first time that a zip file can represent."""
_LAST_TIME = 4354819198
"""2107-12-31 23:59:58: the last one."""


@dataclass(slots=True)
class _Record:
    """The record of a member for the central directory."""

    member: Member
    name: bytes
    size: int
    method: int
    flags: int
    offset: int = 0
    crc: int = 0
    packed: int = 0

    @property
    def is_large(self) -> bool:
        return self.size >= _MAYBE_LARGE


class _Work(NamedTuple):
    """A block of a member to deflate; an empty block for a member without content."""

    record: _Record
    block: Block
    is_first: bool


def pack_zip(contents: Contents, codec: Codec, threads: int) -> Iterator[bytes]:
    """Write members as a zip file, with Unix modes and the time in UTC.

    Args:
        contents: the members.
        codec: the implementation of deflate.
        threads: the number of threads; it does not influence the bytes.
    """
    stamp = _dos_time(contents.epoch)
    offset = 0
    records = []

    def deflate(work: _Work) -> tuple[_Work, bytes]:
        is_deflated = work.record.method == _DEFLATED
        return work, codec.deflate(work.block) if is_deflated else work.block.data

    def deflate_all(batch: list[_Work]) -> list[tuple[_Work, bytes]]:
        return [deflate(work) for work in batch]

    batches = in_order(deflate_all, _batches(_works(contents, codec)), threads)
    for work, data in chain.from_iterable(batches):
        record = work.record
        if work.is_first:
            record.offset = offset
            records.append(record)
            head = _local_header(record, stamp)
            offset += len(head)
            yield head
        record.packed += len(data)
        tail = _descriptor(record) if work.block.is_last and record.flags & _SIZES_FOLLOW else b""
        offset += len(data) + len(tail)
        yield data
        yield tail
    directory = b"".join(_central_header(record, stamp) for record in records)
    yield directory
    yield _end(len(records), len(directory), offset)


def _works(contents: Contents, codec: Codec) -> Iterator[_Work]:
    for member in contents.members:
        reader = MemberReader(contents.medium, member)
        record = _record(member)
        if member.size:
            is_first = True
            for block in blocks(regroup(reader, BLOCK)):
                record.crc = codec.crc32(block.data, record.crc)
                yield _Work(record, block, is_first)
                is_first = False
        else:
            data = b"".join(reader) or member.link.encode()
            record.crc = zlib.crc32(data)
            yield _Work(record, Block(data, b"", is_last=True), is_first=True)
        contents.entries.append(reader.entry)


def _batches(works: Iterable[_Work]) -> Iterator[list[_Work]]:
    """Batch small blocks: passing one to another thread costs as much as deflating it."""
    batch: list[_Work] = []
    size = 0
    for work in works:
        batch.append(work)
        size += len(work.block.data)
        if size >= BLOCK or len(batch) == _BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def _record(member: Member) -> _Record:
    name = member.name.encode()
    if stat.S_ISDIR(member.mode):
        name += b"/"
    method = _DEFLATED if member.size else _STORED
    flags = (_SIZES_FOLLOW if member.size else 0) | (0 if name.isascii() else _UTF8)
    return _Record(member, name, len(member.link.encode()) or member.size, method, flags)


def _local_header(record: _Record, stamp: tuple[int, int]) -> bytes:
    follows = bool(record.flags & _SIZES_FOLLOW)
    crc, size = (0, 0) if follows else (record.crc, record.size)
    extra = struct.pack("<HHQQ", 1, 16, 0, 0) if record.is_large else b""
    if record.is_large:
        size = _LARGE
    sizes = (crc, size, size, len(record.name), len(extra))
    head = struct.pack(
        "<4sHHHHHIIIHH", b"PK\3\4", _needs(record), record.flags, record.method, *stamp, *sizes
    )
    return head + record.name + extra


def _descriptor(record: _Record) -> bytes:
    form = "<4sIQQ" if record.is_large else "<4sIII"
    return struct.pack(form, b"PK\7\10", record.crc, record.packed, record.size)


def _central_header(record: _Record, stamp: tuple[int, int]) -> bytes:
    wide = [record.size, record.packed] if record.is_large else []
    if record.offset >= _LARGE:
        wide.append(record.offset)
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    sizes = [_LARGE, _LARGE] if record.is_large else [record.packed, record.size]
    attributes = record.member.mode << 16
    if stat.S_ISDIR(record.member.mode):
        attributes |= _DIRECTORY
    head = struct.pack(
        "<4sHHHHHHIIIHHHHHII",
        b"PK\1\2",
        _UNIX | _VERSION_64,
        _VERSION_64 if wide else _VERSION,
        record.flags,
        record.method,
        *stamp,
        record.crc,
        *sizes,
        len(record.name),
        len(extra),
        0,
        0,
        0,
        attributes,
        min(record.offset, _LARGE),
    )
    return head + record.name + extra


def _end(count: int, size: int, offset: int) -> bytes:
    wide = b""
    if count >= _MANY or size >= _LARGE or offset >= _LARGE:
        wide = struct.pack(
            "<4sQHHIIQQQQ4sIQI",
            b"PK\6\6",
            44,
            _UNIX | _VERSION_64,
            _VERSION_64,
            0,
            0,
            count,
            count,
            size,
            offset,
            b"PK\6\7",
            0,
            offset + size,
            1,
        )
    few = min(count, _MANY)
    return wide + struct.pack(
        "<4sHHHHIIH", b"PK\5\6", 0, 0, few, few, min(size, _LARGE), min(offset, _LARGE), 0
    )


def _needs(record: _Record) -> int:
    return _VERSION_64 if record.is_large else _VERSION


def _dos_time(epoch: int) -> tuple[int, int]:
    """The time and date in MS-DOS format, with a resolution of two seconds."""
    at = time.gmtime(min(max(epoch, FIRST_TIME), _LAST_TIME))
    clock = at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2
    return clock, (at.tm_year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday
