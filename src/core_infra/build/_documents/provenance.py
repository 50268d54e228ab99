"""Who built a release, from what and how: an in-toto statement with SLSA's provenance.

The formats: https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core_infra.build._errors import ChecksumError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from core_infra.build._artifact import Artifact
    from core_infra.medium._medium import Medium

PROVENANCE = "provenance.intoto.json"

BUILD_TYPE = "https://core-infra.dev/build/v1"
"""Names what the parameters below mean; a name, not a page."""

_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True, slots=True)
class Source:
    """Something that a build was made from.

    Attributes:
        uri: where it comes from: ``git+https://…@refs/tags/v1``, or a package URL.
        digest: by the algorithm's name: ``{"gitCommit": "…"}``, ``{"sha256": "…"}``.
    """

    uri: str
    digest: Mapping[str, str] = field(default_factory=dict)


def write_provenance(
    medium: Medium,
    artifacts: Iterable[Artifact],
    path: str,
    *,
    builder: str,
    parameters: Mapping[str, Any] | None = None,
    tools: Mapping[str, str] | None = None,
    sources: Iterable[Source] = (),
    epoch: int | None = None,
) -> None:
    """Write the statement for the artifacts of one release; the same input gives the same bytes.

    Args:
        medium: where to write.
        artifacts: each with its checksum.
        path: the file, usually ``dist/provenance.intoto.json``.
        builder: a URI for who ran the build: the CI service's, or one's own.
        parameters: what the build was asked for: type, targets, flags.
        tools: versions of what it ran.
        sources: what it was made from, the project's own sources first.
        epoch: when it was built, in seconds since 1970; left out if None.

    Raises:
        ChecksumError: an artifact has no checksum; nothing is written.
    """
    metadata = {} if epoch is None else {"finishedOn": f"{_when(epoch)}Z"}
    statement = {
        "_type": _STATEMENT,
        "subject": sorted(map(_subject, artifacts), key=lambda subject: str(subject["name"])),
        "predicateType": _PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": dict(parameters or {}),
                "internalParameters": {"tools": dict(tools or {})},
                "resolvedDependencies": [
                    {"uri": source.uri, "digest": dict(source.digest)} for source in sources
                ],
            },
            "runDetails": {"builder": {"id": builder}, "metadata": metadata},
        },
    }
    medium.write_text(path, json.dumps(statement, indent=2, sort_keys=True) + "\n")


def read_subjects(medium: Medium, path: str) -> dict[str, str]:
    """The SHA-256 of each artifact that a statement speaks of, by name.

    Raises:
        ChecksumError: it is not a statement of SLSA's provenance.
        CoreInfraError: it cannot be read.
    """
    try:
        data = json.loads(medium.read_bytes(path))
        if (data["_type"], data["predicateType"]) != (_STATEMENT, _PREDICATE):
            why = f"it is {data['predicateType']!r} in {data['_type']!r}"
            raise ChecksumError(f"{path!r} is no provenance", why=why, path=path)
        return {str(one["name"]): str(one["digest"]["sha256"]) for one in data["subject"]}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, ChecksumError):
            raise
        why = f"{type(error).__name__}: {error}"
        raise ChecksumError(f"{path!r} is no provenance", why=why, path=path) from error


def _subject(artifact: Artifact) -> dict[str, object]:
    if not artifact.checksum:
        raise ChecksumError(
            f"cannot tell where {artifact.path!r} comes from",
            why="it has no checksum",
            todo="Call checksum or checksum_all first.",
            path=artifact.path,
        )
    return {"name": artifact.name, "digest": {"sha256": artifact.checksum}}


def _when(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).replace(tzinfo=None).isoformat()
