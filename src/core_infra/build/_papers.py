"""Checks that the documents of a release describe this release: its files, and one version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from core_infra._wording import count
from core_infra.build._documents.manifest import MANIFEST
from core_infra.build._documents.provenance import ENVELOPE, PROVENANCE, read_subjects
from core_infra.build._documents.sbom import SBOM
from core_infra.build._errors import VerificationError
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core_infra.medium._medium import Medium

DOCUMENTS = frozenset({ENVELOPE, MANIFEST, PROVENANCE, SBOM})
VERSIONED = DOCUMENTS - {ENVELOPE}
"""Those that have a version of their own."""


def artifacts_of(sums: dict[str, str]) -> set[str]:
    """The names of the artifacts in the checksums: all files but the documents."""
    return set(sums) - DOCUMENTS


def check_manifest_names(names: Iterable[str], sums: dict[str, str]) -> str:
    """Why the names in a manifest are not those of the artifacts; empty if they are."""
    missing = artifacts_of(sums) - set(names)
    return f"it does not list {', '.join(sorted(missing))}" if missing else ""


def check_provenance(medium: Medium, path: str, sums: dict[str, str]) -> str:
    """Check that a provenance statement covers all artifacts; return a note.

    Raises:
        CoreInfraError: it does not.
    """
    subjects = read_subjects(medium, path)
    for name, digest in subjects.items():
        if sums.get(name) != digest:
            raise _wrong(PROVENANCE, f"it has another digest of {name}: {digest}")
    if missing := artifacts_of(sums) - set(subjects):
        raise _wrong(PROVENANCE, f"it does not cover {', '.join(sorted(missing))}")
    return count(len(subjects), "artifact")


def check_sbom(medium: Medium, path: str, sums: dict[str, str]) -> str:
    """Check that a bill of materials is one of these artifacts; return a note.

    Raises:
        CoreInfraError: it is not, or not in CycloneDX format.
    """
    try:
        data = json.loads(medium.read_bytes(path))
        components = list(data.get("components", []))
        if data["bomFormat"] != "CycloneDX":
            raise _wrong(SBOM, "it is not CycloneDX")
        files = {
            one["name"]: {hash_["alg"]: hash_["content"] for hash_ in one.get("hashes", [])}
            for one in components
            if one.get("type") == "file"
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, CoreInfraError):
            raise
        raise _wrong(SBOM, f"it is not CycloneDX: {error}") from error
    for name, hashes in sorted(files.items()):
        digest = hashes.get("SHA-256", "")
        if sums.get(name) != digest:
            raise _wrong(SBOM, f"it has another digest of {name}: {digest}")
    if files and (missing := artifacts_of(sums) - set(files)):
        raise _wrong(SBOM, f"it does not list {', '.join(sorted(missing))}")
    return f"{len(components)} components"


def check_versions(medium: Medium, paths: dict[str, str]) -> str:
    """Why the versions in the documents differ; empty if they do not.

    Args:
        medium: where the release is.
        paths: the paths of the documents that are there, by name.
    """
    found = {name: _version(medium, name, path) for name, path in paths.items()}
    known = {name: version for name, version in found.items() if version}
    if len(set(known.values())) < 2:  # noqa: PLR2004 - one version for all
        return ""
    return ", ".join(f"{name} has version {version!r}" for name, version in sorted(known.items()))


def _version(medium: Medium, name: str, path: str) -> str:
    places = {
        MANIFEST: ("version",),
        SBOM: ("metadata", "component", "version"),
        PROVENANCE: ("predicate", "buildDefinition", "externalParameters", "version"),
    }
    try:
        found: Any = json.loads(medium.read_bytes(path))
        for key in places[name]:
            found = found.get(key) if isinstance(found, dict) else None
    except (ValueError, RecursionError, CoreInfraError):
        return ""  # reported by the check of this document
    return found if isinstance(found, str) else ""


def _wrong(document: str, why: str) -> VerificationError:
    return VerificationError(document, why=why, problems=[])
