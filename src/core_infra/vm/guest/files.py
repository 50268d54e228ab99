"""Files and trees between host and guest.

A single file goes through the agent, which writes it aside and renames it into place. A tree goes
as a tar stream through the guest's own ``tar``, so that links, modes and empty directories arrive.
"""

from __future__ import annotations

import io
import os
import shlex
import stat
import tarfile
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm.guest.client import KEEP_MODE, raise_failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm.guest.client import AgentClient
    from core_infra.vm.guest.command import GuestProcess

_CHUNK = 256 * 1024


def read_file(client: AgentClient, path: str, timeout: float) -> Iterator[bytes]:
    """The bytes of a guest's file, piece by piece."""
    channel = client.open_read(os.fsencode(path))
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


def write_file(
    client: AgentClient, path: str, data: Iterator[bytes], timeout: float, mode: int = KEEP_MODE
) -> None:
    """Write a guest's file: a reader there sees the old one or the whole new one."""
    channel = client.open_write(os.fsencode(path), mode)
    try:
        for piece in data:
            channel.write(piece, time.monotonic() + timeout)
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


class _InputFile(io.RawIOBase):
    """The standard input of a guest's process as a file to write to."""

    def __init__(self, process: GuestProcess) -> None:
        self._process = process

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(cast("bytes", data))
        self._process.send_input(piece)
        return len(piece)


def extract_command(target: str) -> str:
    """The guest's command that unpacks a tree from its standard input into *target*."""
    quoted = shlex.quote(target)
    return f"mkdir -p {quoted} && tar -x -p -o -f - -C {quoted}"


def archive_command(source: str) -> str:
    """The guest's command that writes the tree *source* to its standard output."""
    return f"tar -c -f - -C {shlex.quote(source)} ."


def send_tree(process: GuestProcess, source: Path) -> None:
    """Write the content of a local directory as a tar stream to the command's input."""
    with (
        io.BufferedWriter(_InputFile(process), _CHUNK) as file,
        # The GNU form is the one that busybox's tar reads with long names.
        tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as archive,
    ):
        for entry in sorted(source.iterdir()):
            archive.add(entry, arcname=entry.name, filter=_as_root)
    process.close_stdin()


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    # The host's user ids mean nothing in the guest.
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


class _OutputFile(io.RawIOBase):
    """The standard output of a guest's process as a file to read from."""

    def __init__(self, process: GuestProcess) -> None:
        self.errors = bytearray()
        self._chunks = process.chunks()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        while not self._rest:
            stream, data = next(self._chunks, ("", b""))
            if not stream:
                return 0
            if stream == "stderr":
                self.errors += data
            else:
                self._rest = memoryview(data)
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def receive_tree(process: GuestProcess, target: Path) -> bytes:
    """Unpack the command's output, a tar stream, into *target*; returns its standard error.

    The guest is not trusted: nothing is written outside *target*, no device nodes, no foreign
    owners (PEP 706's data filter).
    """
    output = _OutputFile(process)
    target.mkdir(parents=True, exist_ok=True)
    with io.BufferedReader(output, _CHUNK) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|") as archive:
                archive.extractall(target, filter="data")
        except tarfile.ReadError:
            if not output.errors:  # else the guest's own words tell the reason better
                raise
        while file.read(_CHUNK):
            pass
    return bytes(output.errors)


def base_name(path: str) -> str:
    """The last part of a guest's path."""
    return PurePosixPath(path).name
