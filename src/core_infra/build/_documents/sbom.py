"""The dependencies of a project, and its bill of materials (SBOM).

The SBOM is in CycloneDX format: https://cyclonedx.org/docs/1.6/json/.
"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from core_infra.build._errors import ArtifactError, ToolMissingError
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from core_infra.build._artifact import Artifact
    from core_infra.medium._medium import Medium


SBOM = "sbom.cdx.json"


def write_sbom(
    medium: Medium,
    path: str,
    *,
    name: str,
    version: str,
    artifacts: Iterable[Artifact] = (),
    dependencies: Iterable[Dependency] = (),
    epoch: int,
) -> None:
    """Write the bill of materials of a release; the same input gives the same bytes.

    Args:
        medium: where to write.
        path: the file, usually ``dist/sbom.cdx.json``.
        name: the project's name.
        version: the release's version.
        artifacts: the release's files, with their checksums.
        dependencies: the packages that it contains, see :func:`dependencies`.
        epoch: the release's time, in seconds since 1970.

    Raises:
        ToolMissingError: the extra ``build`` is not installed.
    """
    try:
        from core_infra.build._documents import cyclonedx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ToolMissingError(
            "a bill of materials needs cyclonedx-python-lib",
            why="it is not installed",
            todo="Install it with: pip install core-infra[build]",
            tool="cyclonedx-python-lib",
        ) from error
    when = datetime.fromtimestamp(epoch, UTC)
    text = cyclonedx.document(name, version, artifacts, dependencies, when)
    medium.write_text(path, f"{text}\n")


_GO_REQUIRE = re.compile(r"^\s*(?:require\s+)?(\S+\.\S+)\s+(v\S+)", re.MULTILINE)
_GO_BLOCK = re.compile(r"^require\s*\((.*?)^\)|^require\s+([^(\n]+)$", re.MULTILINE | re.DOTALL)
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\#]+)", re.MULTILINE)
_SEPARATORS = re.compile(r"[-_.]+")


class Dependency(NamedTuple):
    """A package and its version.

    Attributes:
        kind: its type in package URLs: golang, npm, composer, cargo, pypi.
        name: its full name.
        version: its version.
    """

    kind: str
    name: str
    version: str


def dependencies(medium: Medium, directory: str) -> list[Dependency]:
    """Return the packages in the lock files of a project; sorted, without duplicates.

    It reads go.mod, package-lock.json, composer.lock, Cargo.lock, uv.lock, poetry.lock and
    requirements.txt (packages pinned by ``==``).

    Raises:
        ArtifactError: a lock file is malformed, so the list would be incomplete.
        CoreInfraError: reading fails.
    """
    found: set[Dependency] = set()
    for name, read in _READERS.items():
        path = posixpath.join(directory, name)
        if not medium.is_file(path):
            continue
        try:
            found.update(read(medium.read_text(path)))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, CoreInfraError):
                raise
            raise ArtifactError(
                f"cannot read the lock file {path!r}",
                why=f"{type(error).__name__}: {error}",
                todo="Regenerate it by its package manager.",
                path=path,
            ) from error
    return sorted(found)


def _go(text: str) -> Iterator[Dependency]:
    bare = re.sub(r"//[^\n]*", "", text)
    for match in _GO_BLOCK.finditer(bare):
        for name, version in _GO_REQUIRE.findall(match[1] or match[2]):
            yield Dependency("golang", name, version)


def _npm(text: str) -> Iterator[Dependency]:
    data = json.loads(text)
    for path, package in data["packages"].items():
        name = package.get("name") or path.rpartition("node_modules/")[2]
        if path and not package.get("link") and not package.get("dev") and "version" in package:
            yield Dependency("npm", name, package["version"])


def _composer(text: str) -> Iterator[Dependency]:
    for package in json.loads(text)["packages"]:
        yield Dependency("composer", package["name"], package["version"])


def _toml(kind: str) -> Callable[[str], Iterator[Dependency]]:
    def read(text: str) -> Iterator[Dependency]:
        for package in tomllib.loads(text).get("package", []):
            if _is_foreign(package):
                yield Dependency(kind, package["name"], package["version"])

    return read


def _is_foreign(package: dict[str, Any]) -> bool:
    """Whether a package is not the project itself, or a part of it."""
    source = package.get("source", {})
    is_own = isinstance(source, dict) and bool({"virtual", "editable"} & source.keys())
    return not is_own and "version" in package


def _cargo(text: str) -> Iterator[Dependency]:
    for package in tomllib.loads(text).get("package", []):
        if "source" in package:  # members of the workspace have no source
            yield Dependency("cargo", package["name"], package["version"])


def _requirements(text: str) -> Iterator[Dependency]:
    for name, version in _REQUIREMENT.findall(text):
        yield Dependency("pypi", _SEPARATORS.sub("-", name).lower(), version)


_READERS: dict[str, Callable[[str], Iterator[Dependency]]] = {
    "go.mod": _go,
    "package-lock.json": _npm,
    "composer.lock": _composer,
    "Cargo.lock": _cargo,
    "uv.lock": _toml("pypi"),
    "poetry.lock": _toml("pypi"),
    "requirements.txt": _requirements,
}
