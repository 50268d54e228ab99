"""Joins programs for macOS into universal ones, which run on both kinds of Macs.

The format: https://github.com/apple-oss-distributions/xnu/blob/main/EXTERNAL_HEADERS/mach-o/fat.h.
The programs are unchanged in it, with their signatures.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from core_infra.build._errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MAGIC = 0xCAFEBABE
_HEADER = struct.Struct(">II")
_ENTRY = struct.Struct(">IIIII")
_PAGE_BITS = 14
"""Pages of Apple silicon have 16 KiB; a program begins on a page."""
_MACHO_64 = b"\xcf\xfa\xed\xfe"
_LARGEST = 1 << 32


def join_programs(directories: Sequence[Path], output: Path) -> None:
    """Write a universal program for each name in directories with the same names.

    Raises:
        ArtifactError: a directory lacks one, or a file is not a 64-bit Mach-O program.
    """
    for first in sorted(directories[0].iterdir()):
        join([directory / first.name for directory in directories], output / first.name)


def join(programs: Sequence[Path], path: Path) -> None:
    """Write one universal program from programs for one architecture each.

    Raises:
        ArtifactError: a file is missing or not a 64-bit Mach-O program, or together they are too
            large for the format.
    """
    entries, end = [], _HEADER.size + _ENTRY.size * len(programs)
    for program in programs:
        start = -(-end >> _PAGE_BITS) << _PAGE_BITS
        size = program.stat().st_size if program.is_file() else 0
        entries.append(_ENTRY.pack(*_processor(program), start, size, _PAGE_BITS))
        end = start + size
    if end >= _LARGEST:
        raise ArtifactError(
            f"{path.name} is too large for a universal program",
            why=f"it would have {end} bytes, and the format has 32 bits for them",
            todo="Use the targets darwin/amd64 and darwin/arm64.",
            path=str(path),
        )
    with path.open("wb") as file:
        file.write(_HEADER.pack(_MAGIC, len(programs)) + b"".join(entries))
        for program, entry in zip(programs, entries, strict=True):
            start = _ENTRY.unpack(entry)[2]
            file.write(b"\0" * (start - file.tell()))
            file.write(program.read_bytes())
    path.chmod(0o755)


def _processor(program: Path) -> tuple[int, int]:
    """The type and subtype of the processor that a program is for."""
    head = b""
    if program.is_file():
        with program.open("rb") as file:
            head = file.read(12)
    if not head.startswith(_MACHO_64) or len(head) < 12:  # noqa: PLR2004 - the size of the header
        raise ArtifactError(
            f"{program.name} is not a program for macOS",
            why=f"{program} is not a 64-bit Mach-O file" if head else f"{program} does not exist",
            path=str(program),
        )
    kind, subtype = struct.unpack_from("<II", head, 4)
    return int(kind), int(subtype)
