"""Decompression by magic number, whichever method a distribution chose."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import sys
import zlib
from typing import IO, TYPE_CHECKING, Protocol, cast

from core_infra.errors import InvalidError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_LZ4_MAGIC = b"\x02\x21\x4c\x18"  # the legacy frame, the only one that kernels use
_LZ4_BLOCK = 8 << 20
_LZ4_SIZE = 4
_FAILURES = (
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
    OSError,
    EOFError,
    ValueError,
)


def is_compressed(data: bytes) -> bool:
    """Whether ``data`` begins with the magic number of a method that can be unpacked here."""
    return data.startswith((*_DECOMPRESSORS, _LZ4_MAGIC))


def decompress(data: bytes, limit: int) -> bytes:
    """Unpack gzip, xz, zstd, bzip2, lzma or lz4 (legacy frame); what follows its end is ignored.

    Args:
        data: the packed bytes.
        limit: stop soon after this many unpacked bytes. To find out whether there is more than
            expected, ask for one byte more.

    Raises:
        InvalidError: the method is unknown, or the data are damaged or cut off.
    """
    try:
        if data.startswith(_LZ4_MAGIC):
            return _lz4(data, limit)
        for magic, make in _DECOMPRESSORS.items():
            if data.startswith(magic):
                decompressor = make()
                unpacked = decompressor.decompress(data, limit)
                if not decompressor.eof and len(unpacked) < limit:
                    raise InvalidError("Packed data are cut off")
                return unpacked
    except _FAILURES as error:
        raise InvalidError("Packed data are damaged", why=str(error)) from error
    raise InvalidError(f"Unknown compression: the data begin with {data[:6].hex(' ') or 'nothing'}")


def is_packed_file(head: bytes) -> bool:
    """Whether :func:`unpacked` can unpack a file with these first bytes."""
    return head.startswith(tuple(_FILES))


def unpacked(path: Path, size: int) -> Iterator[bytes]:
    """The content of a file that was packed with gzip, xz, zstd or bzip2, in pieces.

    Args:
        path: the file; several packed parts in a row are one content.
        size: bytes of each piece; the last one may have fewer.

    Raises:
        InvalidError: it is damaged, or cut off.
        OSError: it cannot be read.
    """
    with path.open("rb") as raw:
        head = raw.read(8)
        raw.seek(0)
        opened = next(make for magic, make in _FILES.items() if head.startswith(magic))
        with opened(raw) as file:
            while piece := _piece(file, path, size):
                yield piece


def _piece(file: IO[bytes], path: Path, size: int) -> bytes:
    try:
        return file.read(size)
    except _FAILURES as error:
        if isinstance(error, OSError) and error.errno is not None:  # gzip's own have no number
            raise
        raise InvalidError(f"the packed file {path} is damaged", why=str(error)) from error


def _lz4(data: bytes, limit: int) -> bytes:
    import cramjam  # noqa: PLC0415 - only for a kernel that is unpacked

    room = bytearray(_LZ4_BLOCK)
    blocks = []
    position = len(_LZ4_MAGIC)
    # A kernel's payload ends in its unpacked size: four bytes that are not a block.
    while len(data) - position > _LZ4_SIZE and limit > 0:
        (size,) = struct.unpack_from("<I", data, position)
        position += _LZ4_SIZE
        block = data[position : position + size]
        try:
            length = cramjam.lz4.decompress_block_into(block, room, output_len=_LZ4_BLOCK)
        except cramjam.DecompressionError as error:
            raise InvalidError("Packed data are damaged", why=str(error)) from error
        blocks.append(bytes(room[:length]))
        limit -= len(blocks[-1])
        position += size
    return b"".join(blocks)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_DECOMPRESSORS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
    b"\x28\xb5\x2f\xfd": zstd.ZstdDecompressor,
    b"BZh": bz2.BZ2Decompressor,
    b"\x5d\0\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
}
_FILES: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda file: cast("IO[bytes]", zstd.ZstdFile(file)),
    b"BZh": bz2.BZ2File,
}
