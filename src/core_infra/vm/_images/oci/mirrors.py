"""Where an image may be fetched: the mirrors in ``registries.conf`` of podman and skopeo.

The format: containers-registries.conf(5), version 2. The tables ``[[registry]]`` are used; search
registries and short names are not, because a name without a host is one of Docker Hub.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm._images.oci.credentials import find_credentials
from core_infra.vm._images.oci.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._images.oci.manifest import Descriptor
    from core_infra.vm._images.oci.reference import Reference
    from core_infra.vm._images.oci.store import Store

T = TypeVar("T")
_SYSTEM = Path("/etc/containers")
_CONFIG = "registries.conf"
_PULLS = ("all", "digest-only", "tag-only")


@dataclass(frozen=True)
class Source:
    """A place that has an image.

    Attributes:
        reference: the image there.
        insecure: it may be used without TLS, and without a valid certificate.
    """

    reference: Reference
    insecure: bool = False


@dataclass(frozen=True)
class _Mirror:
    location: str
    insecure: bool
    pulls: str


@dataclass(frozen=True)
class _Entry:
    """A table ``[[registry]]``."""

    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[_Mirror, ...]
    file: Path

    def matched(self, name: str) -> str:
        """Return the part of an image's name that the prefix stands for; "" if it does not fit."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0]
            return host if host.endswith(self.prefix[1:]) else ""
        rest = name.removeprefix(self.prefix)
        return self.prefix if rest != name and rest[:1] in ("", "/") else ""


class Mirrors:
    """An image's places, tried in order until one has what is needed.

    Args:
        reference: the image.
        progress: called with a line of text when something has to be waited for.

    Raises:
        InvalidError: ``registries.conf`` is malformed, or blocks the image.
    """

    def __init__(self, reference: Reference, progress: Callable[[str], None]) -> None:
        self._reference = reference
        self._progress = progress
        self._failed: list[str] = []
        sources, self._file = find_sources(reference)
        self._origins = [
            Registry(one.reference, find_credentials, progress, insecure=one.insecure)
            for one in sources
        ]

    def manifest(self, version: str) -> tuple[str, bytes]:
        """Return the digest and the content of a manifest or index, by its digest or tag."""
        return self._first(lambda origin: origin.manifest(version))

    def blob(self, descriptor: Descriptor, store: Store) -> None:
        """Bring a blob into the store."""
        self._first(lambda origin: origin.blob(descriptor, store))

    def _first(self, get: Callable[[Registry], T]) -> T:
        """Return what the first place has; of a place that fails, nothing is asked again."""
        while True:
            origin = self._origins[0]
            try:
                return get(origin)
            except (UnavailableError, NotFoundError, InvalidError) as error:
                self._failed.append(f"{error.what}: {error.why}" if error.why else error.what)
                if len(self._origins) > 1:
                    self._progress(f"{origin.host} has failed; trying {self._origins[1].host}")
                    del self._origins[0]
                    continue
                if len(self._failed) == 1:
                    raise
                raise UnavailableError(
                    f"cannot fetch {self._reference} from its mirrors, nor from its registry",
                    why="; ".join(self._failed),
                    todo=f"The mirrors are those of {self._file}.",
                ) from error


def find_sources(reference: Reference) -> tuple[list[Source], Path | None]:
    """Return the places that may have an image, best first, and the file that names them.

    Raises:
        InvalidError: a file is malformed, or blocks the image.
    """
    name = f"{reference.host}/{reference.repository}"
    fitting = [(entry.matched(name), entry) for entry in _entries().values()]
    matched, entry = max(fitting, key=lambda pair: len(pair[0]), default=("", None))
    if entry is None or not matched:
        return [Source(reference)], None
    if entry.blocked:
        raise InvalidError(
            f"cannot fetch {reference}",
            why=f"{entry.file} blocks {entry.prefix}",
            todo="Use another registry, or remove `blocked` there.",
        )

    def at(location: str) -> Reference:
        host, _, repository = (location + name.removeprefix(matched)).partition("/")
        return replace(reference, host=host, repository=repository)

    by_digest = bool(reference.digest)
    sources = [
        Source(at(one.location), one.insecure)
        for one in entry.mirrors
        if one.pulls == "all" or (one.pulls == "digest-only") == by_digest
    ]
    own = at(entry.location) if entry.location else reference
    return [*sources, Source(own, entry.insecure)], entry.file


def _entries() -> dict[str, _Entry]:
    """Return the tables of all files, by prefix: a later file replaces a table."""
    found = {}
    for path in _files():
        try:
            data = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise InvalidError(f"cannot read {path}", why=str(error)) from error
        tables = data.get("registry", [])
        if not isinstance(tables, list):
            raise _malformed(path, "registry must be an array of tables: [[registry]]")
        for table in tables:
            entry = _entry(table, path)
            found[entry.prefix] = entry
    return found


def _files() -> list[Path]:
    """Return the files in the order in which podman reads them."""
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers"
    given = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    mains = [Path(given)] if given else [own / _CONFIG, _SYSTEM / _CONFIG]
    # os.access, because a directory of another user is as good as none: HOME may be that of root.
    main = next((path for path in mains if os.access(path, os.F_OK)), mains[-1])
    parts = [sorted((place / f"{_CONFIG}.d").glob("*.conf")) for place in (_SYSTEM, own)]
    return [main, *parts[0], *parts[1]]


def _entry(table: object, path: Path) -> _Entry:
    location, prefix = _text(table, "location", path), _text(table, "prefix", path)
    if not location and not prefix.startswith("*."):
        raise _malformed(path, "a registry needs a location")
    assert isinstance(table, dict)  # noqa: S101 - _text has checked it
    digests = _switch(table, "mirror-by-digest-only", path)
    mirrors = table.get("mirror", [])
    if not isinstance(mirrors, list):
        raise _malformed(path, "mirror must be an array of tables: [[registry.mirror]]")
    return _Entry(
        prefix=prefix or location,
        location=location,
        insecure=_switch(table, "insecure", path),
        blocked=_switch(table, "blocked", path),
        mirrors=tuple(_mirror(one, path, digests=digests) for one in mirrors),
        file=path,
    )


def _mirror(table: object, path: Path, *, digests: bool) -> _Mirror:
    location = _text(table, "location", path)
    pulls = _text(table, "pull-from-mirror", path) or ("digest-only" if digests else "all")
    if not location or pulls not in _PULLS:
        why = f"a mirror needs a location, and pull-from-mirror is one of {', '.join(_PULLS)}"
        raise _malformed(path, why)
    return _Mirror(location, _switch(table, "insecure", path), pulls)


def _text(table: object, field: str, path: Path) -> str:
    value = table.get(field, "") if isinstance(table, dict) else None
    if not isinstance(value, str):
        raise _malformed(path, f"{field} must be a text, not {value!r}")
    return value.removesuffix("/")


def _switch(table: object, field: str, path: Path) -> bool:
    value = table.get(field, False) if isinstance(table, dict) else None
    if not isinstance(value, bool):
        raise _malformed(path, f"{field} must be true or false, not {value!r}")
    return value


def _malformed(path: Path, why: str) -> InvalidError:
    return InvalidError(f"{path} is malformed", why=why)
