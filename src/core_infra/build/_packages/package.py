"""A package for Linux distributions, and its version in their form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.build._config.settings import PackageSettings

_LATER = re.compile(r"-(\d+)-(g[0-9a-f]+)")
"""What git describe adds to the version of a commit after a tag."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package to be built.

    Attributes:
        name: its name, for distributions.
        version: its version, for distributions: ``1.2.3~rc.1``.
        arch: the architecture, with the distribution's name.
        root: a directory with its files.
        epoch: the time of everything in it, in seconds since 1970.
        settings: the project's settings.
        summary: one line about it.
    """

    name: str
    version: str
    arch: str
    root: Path
    epoch: int
    settings: PackageSettings
    summary: str

    @property
    def files(self) -> list[str]:
        """The absolute paths of its files on the system, sorted."""
        found = (path for path in self.root.rglob("*") if path.is_file() or path.is_symlink())
        return sorted(f"/{path.relative_to(self.root)}" for path in found)


def package_version(version: str) -> str:
    """A version as distributions order it: a release candidate is before its release."""
    plain = version.removeprefix("v")
    plain = _LATER.sub(r"+\1.\2", plain).replace("-dirty", "+dirty")
    return plain.replace("-", "~")
