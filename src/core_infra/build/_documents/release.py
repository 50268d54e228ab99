"""Writes all documents of a release."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import Artifact
from core_infra.build._builders.history import read_history
from core_infra.build._builders.sources import sources_of
from core_infra.build._documents.checksums import CHECKSUMS, checksum, write_checksum_file
from core_infra.build._documents.manifest import MANIFEST, write_manifest
from core_infra.build._documents.provenance import PROVENANCE, Source, write_provenance
from core_infra.build._documents.sbom import SBOM, dependencies, write_sbom
from core_infra.build._plan import Goal
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._plan import BuildPlan

_LOCAL = "urn:core-infra:local"
"""The builder of a build outside of CI services."""

_USERINFO = re.compile(r"(?<=://)[^/@]*@")


def describe(plan: BuildPlan, shipped: Sequence[Artifact]) -> list[Path]:
    """Write the documents next to the shipped artifacts, in the workspace.

    Returns:
        Their paths: those listed in the checksums, the signatures of the checksums, the checksums.

    Raises:
        SigningError: signing the checksums failed.
        CoreInfraError: writing failed.
    """
    medium, top = LocalMedium(), plan.context.assembly()
    context = plan.context
    paths = [top / MANIFEST]
    write_manifest(medium, shipped, str(paths[0]), name=context.name, version=context.version)
    if plan.goal is Goal.RELEASE:
        paths += [top / SBOM, top / PROVENANCE]
        _write_sbom(plan, shipped, paths[1])
        _write_provenance(plan, shipped, paths[2])
    listed = [*shipped, *(checksum(medium, Artifact(str(path))) for path in paths)]
    checksums = str(top / CHECKSUMS)
    write_checksum_file(medium, listed, checksums)
    signatures = [Path(one.sign(medium, checksums)) for one in plan.signers.checksums]
    return [*paths, *signatures, Path(checksums)]


def _write_sbom(plan: BuildPlan, shipped: Sequence[Artifact], path: Path) -> None:
    context = plan.context
    write_sbom(
        LocalMedium(),
        str(path),
        name=context.name,
        version=context.version,
        artifacts=shipped,
        dependencies=dependencies(LocalMedium(context.project_dir), "."),
        epoch=context.epoch,
    )


def _write_provenance(plan: BuildPlan, shipped: Sequence[Artifact], path: Path) -> None:
    context, settings = plan.context, plan.context.settings.build
    write_provenance(
        LocalMedium(),
        shipped,
        str(path),
        builder=_builder_id(),
        parameters={
            "type": str(plan.type),
            "name": context.name,
            "version": context.version,
            "targets": [str(target) for target in plan.targets],
            "cgo": settings.cgo,
            "flags": list(settings.flags),
            "ldflags": list(settings.ldflags),
            # Only names: the values may be secret.
            "env": [line.partition("=")[0] for line in settings.env],
            "packing": [plan.packing.format, plan.packing.profile],
        },
        tools={tool.name: tool.version for tool in plan.tools},
        sources=_sources(plan),
        epoch=context.epoch,
    )


def _builder_id() -> str:
    # https://slsa.dev/spec/v1.0/provenance#builder.id
    server, repository, run = (
        os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    if os.environ.get("GITHUB_ACTIONS") == "true" and server:
        return f"{server}/{repository}/actions/runs/{run}"
    return os.environ.get("CI_JOB_URL") or _LOCAL


def _sources(plan: BuildPlan) -> list[Source]:
    context = plan.context
    digest = sources_of(plan.builder, context, plan.targets).digest
    sources = [Source(f"urn:core-infra:sources:{context.name}", {"sha256": digest})]
    history = read_history(context.project_dir)
    if history.commit:
        origin = _USERINFO.sub("", history.origin)
        sources.append(Source(f"git+{origin}@{history.commit}", {"gitCommit": history.commit}))
    return sources
