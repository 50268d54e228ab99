"""Packages of this host's distribution that images are made with, kept in the cache."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._host import SHORT_NAMES
from core_infra.errors import CoreInfraError
from core_infra.vm._cache import cache_root, locked
from core_infra.vm._images.default import apt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CHOSEN = "chosen.json"
_LISTS = Path("/var/lib/apt/lists")


def kept_packages(
    kind: str,
    names: Sequence[str],
    arch: str,
    *,
    progress: Callable[[str], None],
    libraries: bool = False,
) -> list[Path]:
    """Return the files of packages, whose names have their versions.

    They are those that apt would install. It takes seconds to find them, so apt is asked only if
    its lists have changed. If that fails, those of before are used: there may be no network.

    Args:
        kind: what they are for; the name of their directory in the cache.
        names: the packages.
        arch: their architecture, as ``uname -m`` prints it.
        progress: called with a line of text before anything slow.
        libraries: also those of the libraries that they depend on.

    Raises:
        NotFoundError: apt does not know a package.
        UnavailableError: they cannot be had.
    """
    cache = cache_root()
    directory, state = cache / kind / arch, cache / "apt" / arch
    chosen, known = _read_chosen(directory)
    if known and chosen == _digest_of_lists(state):
        return known
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory / "lock", "fetches the same packages", progress):
            found = apt.fetch(
                names,
                SHORT_NAMES[arch],
                directory=directory,
                state=state,
                progress=progress,
                libraries=libraries,
            )
            _write_chosen(directory, _digest_of_lists(state), list(found.values()))
    except (CoreInfraError, OSError):
        if known:
            return known
        raise
    return list(found.values())


def _read_chosen(directory: Path) -> tuple[str, list[Path]]:
    """Return what apt's lists were, and the packages that it chose; none if one is not there."""
    try:
        kept = json.loads((directory / _CHOSEN).read_bytes())
        found = [directory / name for name in kept["packages"]]
        return str(kept["lists"]), found if all(path.is_file() for path in found) else []
    except (OSError, ValueError, LookupError, TypeError):
        return "", []


def _write_chosen(directory: Path, lists: str, packages: list[Path]) -> None:
    part = directory / f"{_CHOSEN}.new"
    with suppress(OSError):  # apt is asked again, then
        part.write_text(json.dumps({"lists": lists, "packages": [one.name for one in packages]}))
        part.replace(directory / _CHOSEN)


def _digest_of_lists(state: Path) -> str:
    """Return a digest of apt's package lists: those of the host, and those of our own."""
    lists = sorted(_lists(_LISTS)) + sorted(_lists(state / "lists"))
    return hashlib.sha256(repr(lists).encode()).hexdigest()


def _lists(directory: Path) -> Iterator[tuple[str, int, int]]:
    for path in directory.glob("*_Packages*"):
        with suppress(FileNotFoundError):  # apt replaces them
            status = path.stat()
            yield path.name, status.st_size, status.st_mtime_ns
