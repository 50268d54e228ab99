"""What is built, and for which platform."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

from core_infra.build._errors import ArtifactError

_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A platform to build for, in Go's words; printed ``os/arch``.

    Attributes:
        os: linux, darwin, windows, …
        arch: amd64, arm64, …

    Raises:
        ArtifactError: a name that could not be a part of a path or an argument.
    """

    os: str
    arch: str

    def __post_init__(self) -> None:
        for name in (self.os, self.arch):
            if not _NAME.fullmatch(name):
                raise ArtifactError(
                    f"no platform has the name {name!r}",
                    why="it must be of small letters and digits",
                    todo="Write targets as os/arch: linux/amd64.",
                )

    def __str__(self) -> str:
        return f"{self.os}/{self.arch}"

    @property
    def directory(self) -> str:
        """The directory in the output directory that holds what is built for it."""
        return f"{self.os}_{self.arch}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``os/arch``.

        Raises:
            ArtifactError: it is of another form.
        """
        system, slash, arch = text.partition("/")
        if not slash:
            raise ArtifactError(
                f"{text!r} is no target", why="it has no '/'", todo="Write it as linux/amd64."
            )
        return cls(system, arch)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, or for some kinds of project a directory, that was built.

    Attributes:
        path: where it is, on the medium that it was built on.
        os: the platform's system; empty if it is for all.
        arch: the platform's architecture; empty if it is for all.
        checksum: the SHA-256 of the file, as 64 hexadecimal digits; empty until it is known.
        content: the digest of what is in it, whatever it is packed with: see
            :func:`core_infra.build._archives.contents.content_digest`; empty until it is known.
        tree: whether it is a directory, which is then archived whole.
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


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}


def host_target() -> Target:
    """The target whose programs run here without further ado."""
    machine = platform.machine().lower()
    return Target(platform.system().lower(), _ARCHITECTURES.get(machine, machine))
