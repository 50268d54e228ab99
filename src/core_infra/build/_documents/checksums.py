"""Checksum files in the format of ``sha256sum``."""

from __future__ import annotations

import posixpath
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra._host import processors
from core_infra.build._archives.contents import check_artifact, hash_file
from core_infra.build._errors import ArtifactError, ChecksumError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core_infra.build._artifact import Artifact
    from core_infra.medium._medium import Medium

CHECKSUMS = "CHECKSUMS.txt"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]([^\0\n]+)")


def checksum(medium: Medium, artifact: Artifact) -> Artifact:
    """Return the artifact with the SHA-256 of its file.

    Raises:
        ArtifactError: the path is empty, or a directory.
        ArtifactMissingError: the path does not exist.
        CoreInfraError: reading fails.
    """
    check_artifact(medium, artifact)
    if medium.is_dir(artifact.path):
        raise ArtifactError(
            f"cannot hash {artifact.path!r}",
            why="it is a directory where a file is expected",
            todo="Archive it first.",
            path=artifact.path,
        )
    with medium.open(artifact.path) as file:
        return replace(artifact, checksum=hash_file(file))


def checksum_all(
    medium: Medium, artifacts: Iterable[Artifact], *, threads: int | None = None
) -> list[Artifact]:
    """Compute the checksums of many artifacts in parallel, like :func:`checksum`; in order."""
    with ThreadPoolExecutor(threads or processors()) as pool:
        return list(pool.map(lambda artifact: checksum(medium, artifact), artifacts))


def write_checksum_file(medium: Medium, artifacts: Iterable[Artifact], path: str) -> None:
    """Write a file for ``sha256sum -c``: checksum, two spaces, base name; sorted by name.

    Args:
        medium: where to write.
        artifacts: the artifacts, with their checksums.
        path: the file, usually ``dist/CHECKSUMS.txt``.

    Raises:
        ChecksumError: an artifact has no checksum, or two have the same base name; nothing is
            written.
    """
    lines: dict[str, str] = {}
    for artifact in artifacts:
        _check(artifact, lines)
        lines[artifact.name] = f"{artifact.checksum}  {artifact.name}\n"
    medium.write_text(path, "".join(lines[name] for name in sorted(lines)))


def read_checksum_file(medium: Medium, path: str) -> dict[str, str]:
    """Return the checksums of a checksum file, by file name.

    Raises:
        ChecksumError: a line is malformed, has a path, or repeats a name; it names the line.
        CoreInfraError: the file cannot be read.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(medium.read_text(path).splitlines(), 1):
        match = _LINE.fullmatch(line)
        name = match[2] if match else ""
        if not match or not _is_base_name(name):
            why = "expected 64 hexadecimal digits, two spaces and a file's base name"
            raise ChecksumError(f"{path}, line {number}", why=why, line=number)
        if name in sums:
            raise ChecksumError(f"{path}, line {number}", why=f"{name!r} is listed twice")
        sums[name] = match[1].lower()
    return sums


def _check(artifact: Artifact, lines: dict[str, str]) -> None:
    what = f"cannot write the checksum of {artifact.path!r}"
    if not _DIGEST.fullmatch(artifact.checksum):
        raise ChecksumError(
            what,
            why=f"it is {artifact.checksum!r}" if artifact.checksum else "it is not set",
            todo="Call checksum or checksum_all first.",
            path=artifact.path,
        )
    if not _is_base_name(artifact.name) or not artifact.name.isprintable() or "\\" in artifact.name:
        raise ChecksumError(what, why="its name does not fit on a line", path=artifact.path)
    if artifact.name in lines:
        raise ChecksumError(
            what,
            why=f"another artifact has the name {artifact.name!r}",
            todo="In a release, every file needs a unique name.",
            path=artifact.path,
        )


def _is_base_name(name: str) -> bool:
    return name == posixpath.basename(name) and name not in {"", ".", ".."}
