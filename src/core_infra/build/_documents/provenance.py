"""The provenance of a release (builder, sources, parameters), as an in-toto statement for SLSA.

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
ENVELOPE = "provenance.dsse.json"
"""The provenance again, signed by a key."""

BUILD_TYPE = "https://core-infra.dev/build/v1"
"""Identifies the meaning of the parameters below; it is not the address of a page."""

_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True, slots=True)
class Source:
    """A source of a build.

    Attributes:
        uri: its origin: ``git+https://…@refs/tags/v1``, or a package URL.
        digest: its digests, by algorithm: ``{"gitCommit": "…"}``, ``{"sha256": "…"}``.
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
    invocation: str = "",
    started: int | None = None,
    finished: int | None = None,
) -> None:
    """Write the statement for the artifacts of a release; the same input gives the same bytes.

    Args:
        medium: where to write.
        artifacts: the artifacts, with their checksums.
        path: the file, usually ``dist/provenance.intoto.json``.
        builder: a URI that identifies who ran the build: a CI service, or yourself.
        parameters: the inputs of the build: type, targets, flags.
        tools: the versions of the tools, by name.
        sources: the sources, the project's own first.
        epoch: the same as *finished*, for a statement with a fixed time.
        invocation: the URI of the single run of the builder; omitted if empty.
        started: when the build started, in seconds since 1970; omitted if None.
        finished: when it ended.

    Raises:
        ChecksumError: an artifact has no checksum; nothing is written.
    """
    times = {"startedOn": started, "finishedOn": epoch if finished is None else finished}
    metadata = {name: f"{_when(time)}Z" for name, time in times.items() if time is not None}
    if invocation:
        metadata["invocationId"] = invocation
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
    """Return the SHA-256 of each artifact in a statement, by name.

    Raises:
        ChecksumError: the file is not an SLSA provenance statement.
        CoreInfraError: the file cannot be read.
    """
    try:
        data = json.loads(medium.read_bytes(path))
        if (data["_type"], data["predicateType"]) != (_STATEMENT, _PREDICATE):
            why = f"it is {data['predicateType']!r} in {data['_type']!r}"
            raise ChecksumError(f"{path!r} is not a provenance statement", why=why, path=path)
        return {str(one["name"]): str(one["digest"]["sha256"]) for one in data["subject"]}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, ChecksumError):
            raise
        why = f"{type(error).__name__}: {error}"
        raise ChecksumError(
            f"{path!r} is not a provenance statement", why=why, path=path
        ) from error


def _subject(artifact: Artifact) -> dict[str, object]:
    if not artifact.checksum:
        raise ChecksumError(
            f"cannot write the provenance of {artifact.path!r}",
            why="it has no checksum",
            todo="Call checksum or checksum_all first.",
            path=artifact.path,
        )
    return {"name": artifact.name, "digest": {"sha256": artifact.checksum}}


def _when(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).replace(tzinfo=None).isoformat()
