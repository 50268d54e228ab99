"""The sizes of a release's files, against those of the release that was there before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from core_infra.build._documents.manifest import MANIFEST, read_manifest
from core_infra.errors import CoreInfraError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UNITS = ("B", "kB", "MB", "GB")
_STEP = 1000


class Sizes:
    """The sizes of the files of a release, in bytes; empty without a release.

    Args:
        directory: the release's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._named: dict[str, str] = {}
        self._bytes: dict[str, int] = {}
        path = directory / MANIFEST
        try:
            listed = read_manifest(LocalMedium(), str(path))
            version = str(json.loads(path.read_bytes())["version"])
        except (CoreInfraError, OSError, ValueError, LookupError):
            return  # there is none, or not ours
        for one in listed:
            key = _without(one.name, version)
            self._named[key] = one.name
            self._bytes[key] = one.size

    def lines(self, before: Sizes) -> Iterator[str]:
        """A line for each file: its name, its size, and how much larger than *before* it is."""
        width = max(map(len, self._named.values()), default=0)
        for key, name in self._named.items():
            line = f"{name:{width}}  {_shown(self._bytes[key]):>8}"
            if old := before._bytes.get(key):
                line += f"  {100 * (self._bytes[key] - old) / old:+.1f} %"
            yield line


def _without(name: str, version: str) -> str:
    """A name that is the same for each version."""
    for text in (version, version.removeprefix("v")):
        if text:
            name = name.replace(text, "*")
    return name


def _shown(size: int) -> str:
    value, unit = float(size), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return f"{value:.3g} {_UNITS[unit]}" if unit else f"{size} B"
