"""Single files between host and guest, through the agent, which renames them into place."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from core_infra._unpatched import time
from core_infra.errors import InvalidError, NotFoundError, TimeoutExpiredError
from core_infra.vm._guest.client import KEEP_MODE
from core_infra.vm._guest.command import MOST_OUTPUT, encoded
from core_infra.vm._guest.results import raise_failure
from core_infra.vm._names import is_path

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from core_infra.vm._guest.client import AgentClient

_CHUNK = 256 * 1024


def read_file(client: AgentClient, path: str, timeout: float) -> Generator[bytes]:
    """The bytes of a guest's file, piece by piece; *timeout* seconds for each."""
    channel = client.open_read(guest_path(path))
    deadline = time.monotonic() + timeout
    try:
        while chunks := channel.read(deadline):
            for _, data in chunks:
                deadline = time.monotonic() + timeout
                yield data
    finally:
        if not channel.ended:
            channel.signal(9)
        channel.abandon()
    raise_failure(channel.result(), f"cannot read {path!r} in the guest")


def read_whole(client: AgentClient, path: str, timeout: float) -> bytes:
    """The content of a guest's file.

    Raises:
        InvalidError: it is too much for this host's memory.
    """
    content, size = [], 0
    with contextlib.closing(read_file(client, path, timeout)) as pieces:
        for piece in pieces:
            content.append(piece)
            size += len(piece)
            if size > MOST_OUTPUT:
                raise InvalidError(
                    f"cannot read {path!r} of the guest at once",
                    why=f"it has more than {MOST_OUTPUT >> 20} MiB, or no end",
                    todo="pull() copies a large file to this host.",
                )
    return b"".join(content)


def write_file(
    client: AgentClient, path: str, data: Iterator[bytes], timeout: float, mode: int = KEEP_MODE
) -> None:
    """Write a guest's file atomically: a reader there sees the old content or all of the new."""
    channel = client.open_write(guest_path(path), mode)
    try:
        for piece in data:
            channel.write(piece, time.monotonic() + timeout)
            if channel.ended:  # it failed: no use in sending the rest
                break
    except BaseException:
        channel.signal(9)
        channel.abandon()
        raise
    channel.close_input()
    raise_failure(channel.result(time.monotonic() + timeout), f"cannot write {path!r} in the guest")


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """A file's bytes in pieces."""
    while data := file.read(_CHUNK):
        yield data


def pieces_of(data: bytes) -> Iterator[bytes]:
    """Data in pieces, so that a timeout applies to a piece and not to the whole."""
    view = memoryview(data)
    return (bytes(view[start : start + _CHUNK]) for start in range(0, len(view), _CHUNK))


def in_time(pieces: Iterator[bytes], timeout: float, what: str) -> Iterator[bytes]:
    """The pieces, as long as there is time.

    Raises:
        TimeoutExpiredError: they do not end within *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    for piece in pieces:
        if time.monotonic() > deadline:
            raise TimeoutExpiredError(
                f"{what} takes longer than {timeout:g} s",
                todo="Give it a longer timeout=….",
                timeout=timeout,
            )
        yield piece


def host_path(path: object) -> Path:
    """A path of this host; InvalidError unless it is one."""
    if not is_path(path):
        raise InvalidError(f"cannot use {path!r} as a path of this host")
    return Path(path)


def guest_path(path: object) -> bytes:
    """A guest's path as bytes; InvalidError unless it is absolute."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidError(
            f"cannot use {path!r} as a path in the guest",
            why="it is relative, and there is no working directory",
            todo="Begin it with '/'.",
        )
    return encoded(path, "a path")


def file_mode(source: Path) -> int | None:
    """The permission bits of a local file; None for a directory; an error for anything else."""
    try:
        mode = source.stat().st_mode
    except FileNotFoundError:
        raise NotFoundError(
            f"cannot push {str(source)!r}", why="there is no such file or directory on this host"
        ) from None
    if stat.S_ISDIR(mode):
        return None
    if not stat.S_ISREG(mode):
        raise InvalidError(
            f"cannot push {str(source)!r}", why="it is neither a regular file nor a directory"
        )
    return stat.S_IMODE(mode)


def base_name(path: str) -> str:
    """The last part of a guest's path."""
    return PurePosixPath(path).name
