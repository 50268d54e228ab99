"""Artifacts, the platforms that they are built for, and their real paths."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra._host import SHORT_NAMES
from core_infra.build._errors import ArtifactError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from core_infra.medium._medium import Medium

_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")
_VARIANT = re.compile(r"(arm)(v[567])|(amd64)(v[1-4])")
_MUSL = "_musl"
UNIVERSAL = "universal"
"""The architecture of a program for macOS that has one for each processor of Macs."""
UNIVERSAL_PARTS = ("amd64", "arm64")


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A platform to build for, with Go's names; ``str()`` returns ``os/arch``.

    Attributes:
        os: linux, darwin, windows, …
        arch: amd64, arm64, …; with a variant, as in ``armv7`` or ``amd64v3``; with ``_musl``, if it
            is for that C library; for macOS also ``universal``.

    Raises:
        ArtifactError: a name has other characters than small letters, digits and ``_``.
    """

    os: str
    arch: str

    def __post_init__(self) -> None:
        for name in (self.os, self.arch):
            if not _NAME.fullmatch(name):
                raise ArtifactError(
                    f"no platform has the name {name!r}",
                    why="it must consist of small letters and digits",
                    todo="Write targets as os/arch: linux/amd64.",
                )

    def __str__(self) -> str:
        return f"{self.os}/{self.arch}"

    @property
    def directory(self) -> str:
        """The name of its directory in the output directory: ``os_arch``."""
        return f"{self.os}_{self.arch}"

    @property
    def architecture(self) -> str:
        """Go's name of the architecture, without a variant and a C library: arm for armv7."""
        plain = self.arch.removesuffix(_MUSL)
        match = _VARIANT.fullmatch(plain)
        return (match[1] or match[3]) if match else plain

    @property
    def variant(self) -> str:
        """The variant of the architecture: v7 for armv7; empty for the usual one."""
        match = _VARIANT.fullmatch(self.arch.removesuffix(_MUSL))
        return (match[2] or match[4]) if match else ""

    @property
    def is_musl(self) -> bool:
        """Whether it is for systems with the C library musl."""
        return self.arch.endswith(_MUSL)

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse ``os/arch``.

        Raises:
            ArtifactError: the text does not have this form.
        """
        system, slash, arch = text.partition("/")
        if not slash:
            raise ArtifactError(
                f"{text!r} is not a target", why="it has no '/'", todo="Write it as linux/amd64."
            )
        return cls(system, arch)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file or directory that was built.

    Attributes:
        path: its path, on the medium that it was built on.
        os: the platform's operating system; empty if it is for all.
        arch: the platform's architecture; empty if it is for all.
        checksum: the SHA-256 of the file, as 64 hexadecimal digits; empty if not computed yet.
        content: the digest of the content of an archive, independent of its compression; empty if
            not computed yet.
        tree: whether it is a directory, to be archived as a whole.
    """

    path: str
    os: str = ""
    arch: str = ""
    checksum: str = ""
    content: str = ""
    tree: bool = False

    @property
    def name(self) -> str:
        """The base name of its path."""
        return self.path.rstrip("/").rpartition("/")[2]


_ARCHITECTURES = {**SHORT_NAMES, "i386": "386", "i686": "386"}


def host_target() -> Target:
    """The platform of this host."""
    machine = platform.machine().lower()
    return Target(platform.system().lower(), _ARCHITECTURES.get(machine, machine))


def real_path(medium: Medium, path: str) -> str:
    """Return the absolute path of a file on a medium, for other programs.

    Raises:
        ArtifactError: the medium has no real files.
    """
    if not isinstance(medium, LocalMedium):
        raise ArtifactError(
            f"cannot pass {path!r} to another program",
            why=f"{medium!r} has no real files",
            todo="Use a LocalMedium.",
        )
    return medium.real_path(path)
