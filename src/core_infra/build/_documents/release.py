"""The documents of a release: what it has, what is inside, and how it was made."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import Artifact
from core_infra.build._builders.sources import git_commit, git_origin, source_digest
from core_infra.build._documents.checksums import CHECKSUMS, checksum, write_checksum_file
from core_infra.build._documents.manifest import MANIFEST, write_manifest
from core_infra.build._documents.provenance import PROVENANCE, Source, write_provenance
from core_infra.build._documents.sbom import SBOM, dependencies, write_sbom
from core_infra.build._plan import Goal
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._plan import Plan

_LOCAL = "urn:core-infra:local"
"""Who ran a build that no CI service ran."""

_USERINFO = re.compile(r"(?<=://)[^/@]*@")


def describe(plan: Plan, shipped: Sequence[Artifact]) -> list[Path]:
    """Write the documents beside what is shipped, still in the workspace.

    Returns:
        Their paths: those that the checksums list, signatures of the checksums, the checksums.

    Raises:
        SigningError: the checksums could not be signed.
        CoreInfraError: one cannot be written.
    """
    medium, top = LocalMedium(), plan.config.staging()
    config = plan.config
    paths = [top / MANIFEST]
    write_manifest(medium, shipped, str(paths[0]), name=config.name, version=config.version)
    if plan.goal is Goal.RELEASE:
        paths += [top / SBOM, top / PROVENANCE]
        _write_sbom(plan, shipped, paths[1])
        _write_provenance(plan, shipped, paths[2])
    listed = [*shipped, *(checksum(medium, Artifact(str(path))) for path in paths)]
    checksums = str(top / CHECKSUMS)
    write_checksum_file(medium, listed, checksums)
    signatures = [Path(one.sign(medium, checksums)) for one in plan.signers.checksums]
    return [*paths, *signatures, Path(checksums)]


def _write_sbom(plan: Plan, shipped: Sequence[Artifact], path: Path) -> None:
    config = plan.config
    write_sbom(
        LocalMedium(),
        str(path),
        name=config.name,
        version=config.version,
        artifacts=shipped,
        dependencies=dependencies(LocalMedium(config.project_dir), "."),
        epoch=config.epoch,
    )


def _write_provenance(plan: Plan, shipped: Sequence[Artifact], path: Path) -> None:
    config, settings = plan.config, plan.config.settings.build
    write_provenance(
        LocalMedium(),
        shipped,
        str(path),
        builder=_who(),
        parameters={
            "type": str(plan.type),
            "name": config.name,
            "version": config.version,
            "targets": [str(target) for target in plan.targets],
            "cgo": settings.cgo,
            "flags": list(settings.flags),
            "ldflags": list(settings.ldflags),
            # The values may be secret.
            "env": [line.partition("=")[0] for line in settings.env],
            "packing": [plan.packing.format, plan.packing.profile],
        },
        tools={tool.name: tool.version for tool in plan.tools},
        sources=_sources(plan),
        epoch=config.epoch,
    )


def _who() -> str:
    # https://slsa.dev/spec/v1.0/provenance#builder.id
    server, repository, run = (
        os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    if os.environ.get("GITHUB_ACTIONS") == "true" and server:
        return f"{server}/{repository}/actions/runs/{run}"
    return os.environ.get("CI_JOB_URL") or _LOCAL


def _sources(plan: Plan) -> list[Source]:
    project, output = plan.config.project_dir, plan.config.output_dir
    sources = [
        Source(
            f"urn:core-infra:sources:{plan.config.name}",
            {"sha256": source_digest(project, output, plan.builder.keeps)},
        )
    ]
    if commit := git_commit(project):
        origin = _USERINFO.sub("", git_origin(project))
        sources.append(Source(f"git+{origin}@{commit}", {"gitCommit": commit}))
    return sources
