"""The manifest: a release's list of artifacts for programs, with two digests of each.

One is the digest of the file, the other that of its content, which does not depend on the
compressor.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from core_infra.build._errors import ChecksumError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core_infra.build._artifact import Artifact
    from core_infra.medium._medium import Medium

MANIFEST = "manifest.json"
_FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ManifestEntry(NamedTuple):
    """The entry of one artifact in a manifest.

    Attributes:
        name: the file's base name.
        os: its platform's operating system; empty if it is for all.
        arch: its platform's architecture; empty if it is for all.
        size: the size of the file, in bytes.
        sha256: the SHA-256 of the file.
        content: the digest of its content; empty if the file is not an archive.
    """

    name: str
    os: str
    arch: str
    size: int
    sha256: str
    content: str


def write_manifest(
    medium: Medium, artifacts: Iterable[Artifact], path: str, *, name: str = "", version: str = ""
) -> None:
    """Write the manifest of a release, sorted by name.

    Args:
        medium: where the artifacts are, and the manifest will be.
        artifacts: the artifacts, with their checksums; archives with their content digests.
        path: the file, usually ``dist/manifest.json``.
        name: the project's name.
        version: the release's version.

    Raises:
        ChecksumError: an artifact has no checksum; nothing is written.
        CoreInfraError: an artifact does not exist.
    """
    listed = sorted(_listed(medium, artifact) for artifact in artifacts)
    data = {
        "format": _FORMAT,
        "name": name,
        "version": version,
        "artifacts": [one._asdict() for one in listed],
    }
    medium.write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_manifest(medium: Medium, path: str) -> list[ManifestEntry]:
    """Read the artifacts of a manifest.

    Raises:
        ChecksumError: the manifest is malformed.
        CoreInfraError: the file cannot be read.
    """
    try:
        data = json.loads(medium.read_bytes(path))
        if data["format"] != _FORMAT:
            raise _malformed(path, f"its format is {data['format']!r}, not {_FORMAT}")
        return [_read(one, path) for one in data["artifacts"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, ChecksumError):
            raise
        raise _malformed(path, f"{type(error).__name__}: {error}") from error


def _read(data: dict[str, Any], path: str) -> ManifestEntry:
    one = ManifestEntry(**data)
    kinds = {field: int if field == "size" else str for field in ManifestEntry._fields}
    wrong = [field for field, kind in kinds.items() if type(getattr(one, field)) is not kind]
    if wrong:
        raise _malformed(path, f"{wrong[0]} of {one.name!r} has the wrong type")
    if one.name != posixpath.basename(one.name) or not one.name.strip("."):
        raise _malformed(path, f"{one.name!r} is not a base name")
    if not _DIGEST.fullmatch(one.sha256) or not _DIGEST.fullmatch(one.content or one.sha256):
        raise _malformed(path, f"a digest of {one.name!r} is not 64 hexadecimal digits")
    return one


def _listed(medium: Medium, artifact: Artifact) -> ManifestEntry:
    if not artifact.checksum:
        raise ChecksumError(
            f"cannot list {artifact.path!r} in a manifest",
            why="it has no checksum",
            todo="Call checksum or checksum_all first.",
            path=artifact.path,
        )
    size = medium.stat(artifact.path).size
    return ManifestEntry(
        artifact.name, artifact.os, artifact.arch, size, artifact.checksum, artifact.content
    )


def _malformed(path: str, why: str) -> ChecksumError:
    return ChecksumError(f"{path!r} is not a manifest", why=why, path=path)
