"""The parts of a sparse file that have data."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from core_infra.vm.guest.arrival import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CHUNK = 1 << 16
_MOST = 256


def extents(file: BinaryIO) -> list[tuple[int, int]]:
    """Of each part with data, the first block and their number; nothing if the file has no holes.

    There are at most some hundreds: the smallest holes count as data.
    """
    size = os.fstat(file.fileno()).st_size
    found: list[tuple[int, int]] = []
    smallest = max(1 << 20, size // _MOST)
    at = 0
    while at < size:
        try:
            start = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:  # nothing but a hole is left
            break
        at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        first, last = start // BLOCK, -(-at // BLOCK)
        if found and first * BLOCK - sum(found[-1]) * BLOCK < smallest:
            found[-1] = (found[-1][0], last - found[-1][0])
        else:
            found.append((first, last - first))
    file.seek(0)
    if sum(count for _, count in found) * BLOCK > size - smallest:
        return []
    return found or [(0, 1)]


def data_of(file: BinaryIO, size: int, parts: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes of a file, of so many at most; or of its parts, the last block filled up."""
    if not parts:
        while size > 0 and (data := file.read(min(_CHUNK, size))):
            size -= len(data)
            yield data
    for first, count in parts:
        file.seek(first * BLOCK)
        left = count * BLOCK
        while left:
            data = file.read(min(_CHUNK, left)).ljust(min(_CHUNK, left), b"\0")
            left -= len(data)
            yield data
