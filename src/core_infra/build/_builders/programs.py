"""Looks at the files that compilers make: is it a program, and for which platform?"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from core_infra.build._errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.build._artifact import Target

_HEAD = 4096

_ELF_MACHINES = {
    3: "386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "amd64",
    183: "arm64",
    243: "riscv64",
    258: "loong64",
}
_ELF_KINDS = {1: "object file", 2: "program", 3: "program"}  # 3: position independent, or a library
_PE_MACHINES = {0x14C: "386", 0x1C0: "arm", 0x1C4: "arm", 0x8664: "amd64", 0xAA64: "arm64"}
_PE_DLL = 0x2000
_MACHO_MACHINES = {7: "386", 0x01000007: "amd64", 12: "arm", 0x0100000C: "arm64"}
_MACHO_KINDS = {1: "object file", 2: "program", 6: "library", 8: "library"}

_FORMATS = {"windows": "PE", "darwin": "Mach-O", "ios": "Mach-O", "wasip1": "wasm", "js": "wasm"}
_ELF_SYSTEMS = frozenset(
    {"linux", "android", "freebsd", "netbsd", "openbsd", "dragonfly", "illumos", "solaris"}
)
_SAME = {"mipsle": "mips", "mips64": "mips", "mips64le": "mips", "ppc64le": "ppc64"}


class Binary(NamedTuple):
    """What a compiled file is.

    Attributes:
        format: ELF, PE, Mach-O, wasm, archive; empty for any other file.
        kind: program, library or object file.
        arch: the architecture, with Go's name; empty if it has none or several.
    """

    format: str
    kind: str
    arch: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.format, self.kind, self.arch and f"for {self.arch}")))


def read_binary(path: Path) -> Binary:
    """Read the header of a file."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    try:
        return _read(head)
    except struct.error:
        return Binary("", "truncated file")


def check_program(path: Path, target: Target) -> None:
    """Check that a file is a program for a target; for rare systems, only that it is no object.

    Raises:
        ArtifactError: it is an object file, a library, a script, or for another platform.
    """
    found = read_binary(path)
    wanted = "ELF" if target.os in _ELF_SYSTEMS else _FORMATS.get(target.os, "")
    arch = _SAME.get(target.architecture, target.architecture)
    right = (
        (not wanted or found.format == wanted)
        and (found.kind == "program" or not wanted)
        and found.format != "archive"
        and found.kind != "object file"
        and (not found.arch or found.arch == arch or not wanted)
    )
    if not right:
        raise ArtifactError(
            f"{path.name} is not a program for {target}",
            why=f"it is a {found}",
            todo="Set project.main in .core/build.yaml to the package of the program.",
            path=str(path),
        )


def _read(head: bytes) -> Binary:
    for magic, read in _READERS:
        if head.startswith(magic):
            return read(head)
    return Binary("", "script" if head.startswith(b"#!") else "file without a program's header")


def _elf(head: bytes) -> Binary:
    order = "<" if head[5] == 1 else ">"
    kind, machine = struct.unpack_from(f"{order}HH", head, 16)
    return Binary("ELF", _ELF_KINDS.get(kind, "file"), _ELF_MACHINES.get(machine, "unknown"))


def _pe(head: bytes) -> Binary:
    (at,) = struct.unpack_from("<I", head, 0x3C)
    if head[at : at + 4] != b"PE\0\0":
        return Binary("DOS", "program")
    (machine,) = struct.unpack_from("<H", head, at + 4)
    (flags,) = struct.unpack_from("<H", head, at + 22)
    kind = "library" if flags & _PE_DLL else "program"
    return Binary("PE", kind, _PE_MACHINES.get(machine, "unknown"))


def _macho(head: bytes) -> Binary:
    order = ">" if head.startswith(b"\xfe") else "<"
    machine, _, kind = struct.unpack_from(f"{order}III", head, 4)
    names = _MACHO_KINDS.get(kind, "file"), _MACHO_MACHINES.get(machine, "unknown")
    return Binary("Mach-O", *names)


_READERS = (
    (b"\x7fELF", _elf),
    (b"MZ", _pe),
    (b"\xcf\xfa\xed\xfe", _macho),
    (b"\xce\xfa\xed\xfe", _macho),
    (b"\xfe\xed\xfa\xcf", _macho),
    (b"\xca\xfe\xba\xbe", lambda _: Binary("Mach-O", "program")),  # for several architectures
    (b"\0asm", lambda _: Binary("wasm", "program", "wasm")),
    (b"!<arch>\n", lambda _: Binary("archive", "of object files")),
)
