"""Deflates in parallel blocks, as pigz does: each block may refer to the end of the one before.

Blocks have fixed boundaries and end on a byte, so their concatenation is one valid stream, which
does not depend on the number of threads.
"""

from __future__ import annotations

import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from core_infra.build._errors import ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator


BLOCK = 1 << 20
_WINDOW = 32 << 10
_MEMORY = 7
"""Less than zlib's default 8: smaller blocks compress programs better, by up to 1 %."""
_MAX_MEMORY = 9


class Block(NamedTuple):
    """A piece of a stream.

    Attributes:
        data: its bytes.
        before: the end of the piece before, to which it may refer.
        is_last: whether it is the last piece of the stream.
    """

    data: bytes
    before: bytes
    is_last: bool


class Codec(NamedTuple):
    """An implementation of deflate.

    Attributes:
        deflate: compresses a block.
        crc32: updates a checksum with more data.
    """

    deflate: Callable[[Block], bytes]
    crc32: Callable[[bytes, int], int]


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int, /) -> bytes: ...


def zlib_ng_codec(level: int) -> Codec:
    """zlib-ng: the compression of gzip at a multiple of its speed.

    Raises:
        ToolMissingError: the package zlib-ng is not installed.
    """
    try:
        from zlib_ng import zlib_ng  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing("zlib-ng") from error

    def make(before: bytes) -> _Compressor:
        arguments = (level, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY, 0)
        return (
            zlib_ng.compressobj(*arguments, before) if before else zlib_ng.compressobj(*arguments)
        )

    return Codec(_deflater(make), zlib_ng.crc32)


def isal_codec(level: int) -> Codec:
    """Intel's ISA-L: many times faster than gzip, for a tenth more bytes.

    Raises:
        ToolMissingError: the package isal is not installed.
    """
    try:
        from isal import isal_zlib  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing("isal") from error

    def make(before: bytes) -> _Compressor:
        arguments = (level, zlib.DEFLATED, -zlib.MAX_WBITS, _MAX_MEMORY, 0)
        return (
            isal_zlib.compressobj(*arguments, before)
            if before
            else isal_zlib.compressobj(*arguments)
        )

    return Codec(_deflater(make), isal_zlib.crc32)


def blocks(pieces: Iterable[tuple[bytes, bool]]) -> Iterator[Block]:
    """Combine each piece of a stream with the end of the one before."""
    before = b""
    for data, is_last in pieces:
        yield Block(data, before, is_last)
        before = data[-_WINDOW:]


def _deflater(make: Callable[[bytes], _Compressor]) -> Callable[[Block], bytes]:
    def deflate(block: Block) -> bytes:
        compressor = make(block.before)
        head = compressor.compress(block.data)
        return head + compressor.flush(zlib.Z_FINISH if block.is_last else zlib.Z_SYNC_FLUSH)

    return deflate


def _missing(package: str) -> ToolMissingError:
    return ToolMissingError(
        f"archiving needs {package}",
        why="it is not installed",
        todo="Install it with: pip install core-infra[build]",
        tool=package,
    )


T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R]:
    """Call *work* for each item in several threads, and yield the results in the items' order.

    At most twice as many items as threads are in progress, so memory does not grow with the number
    of items.
    """
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="core-infra-archive")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def regroup(chunks: Iterable[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Split a stream into blocks of one size, each with whether it is the last; at least one."""
    parts: list[bytes] = []
    have = 0
    for chunk in chunks:
        view = memoryview(chunk)
        while have + len(view) > size:  # yield a full block only if more follows: it is not last
            parts.append(bytes(view[: size - have]))
            yield b"".join(parts), False
            view = view[size - have :]
            parts, have = [], 0
        if view:
            parts.append(bytes(view))
            have += len(view)
    yield b"".join(parts), True
