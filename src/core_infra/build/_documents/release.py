"""Writes all documents of a release."""

from __future__ import annotations

import os
import re
import time
import urllib.parse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import Artifact
from core_infra.build._builders.sources import sources_of
from core_infra.build._documents.checksums import CHECKSUMS, checksum, write_checksum_file
from core_infra.build._documents.contained import contained
from core_infra.build._documents.manifest import MANIFEST, write_manifest
from core_infra.build._documents.provenance import PROVENANCE, Source, write_provenance
from core_infra.build._documents.sbom import SBOM, write_sbom
from core_infra.build._plan import Goal
from core_infra.build._sources.history import History, read_history
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._plan import BuildPlan

_LOCAL = "urn:core-infra:local"
"""The builder of a build outside of CI services."""

_WORKFLOW = "WORKFLOW_REF"
_SCP = re.compile(r"(?:[^/@:]+@)?([^/@:]+):(?!//)(.+)")
"""An address in the form that ssh has: git@github.com:me/app.git."""


def describe(
    plan: BuildPlan, shipped: Sequence[Artifact], built: Sequence[Artifact], *, started: float
) -> list[Path]:
    """Write the documents next to the shipped artifacts, in the workspace.

    Args:
        plan: the plan.
        shipped: the artifacts, with their checksums.
        built: what the builder made, before it was archived.
        started: the time when the build started, in seconds since 1970.

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
        _write_sbom(plan, shipped, built, paths[1])
        _write_provenance(plan, shipped, paths[2], started)
    listed = [*shipped, *(checksum(medium, Artifact(str(path))) for path in paths)]
    checksums = str(top / CHECKSUMS)
    write_checksum_file(medium, listed, checksums)
    signatures = [Path(one.sign(medium, checksums)) for one in plan.signers.checksums]
    return [*paths, *signatures, Path(checksums)]


def _write_sbom(
    plan: BuildPlan, shipped: Sequence[Artifact], built: Sequence[Artifact], path: Path
) -> None:
    context = plan.context
    packages, unread = contained(plan, built)
    write_sbom(
        LocalMedium(),
        str(path),
        name=context.name,
        version=context.version,
        artifacts=shipped,
        dependencies=packages,
        epoch=context.epoch,
        unread=unread,
    )


def _write_provenance(
    plan: BuildPlan, shipped: Sequence[Artifact], path: Path, started: float
) -> None:
    write_provenance(
        LocalMedium(),
        shipped,
        str(path),
        builder=_builder_id(),
        parameters=build_parameters(plan),
        tools={tool.name: tool.version for tool in plan.tools},
        sources=build_sources(plan),
        invocation=_invocation(),
        started=int(started),
        finished=int(time.time()),
    )


def build_parameters(plan: BuildPlan) -> dict[str, object]:
    """What determines a build, for its provenance."""
    context, settings = plan.context, plan.context.settings.build
    history = _history(plan)
    hooks = asdict(context.settings.hooks)
    uncommitted = [*history.changed, *history.untracked]
    return {
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
        **({"hooks": hooks} if any(hooks.values()) else {}),
        **({"snapshot": True} if plan.snapshot else {}),
        **({"uncommitted": uncommitted} if uncommitted else {}),
    }


def build_sources(plan: BuildPlan) -> list[Source]:
    """What a build is made of, for its provenance."""
    context, history = plan.context, _history(plan)
    digest = sources_of(plan.builder, context, plan.targets).digest
    name = urllib.parse.quote(context.name, safe="")
    found = [Source(f"urn:core-infra:sources:{name}", {"sha256": digest})]
    if history.commit:
        where = _download_location(history.origin)
        reference = f"refs/tags/{history.tag}" if history.exact else history.commit
        uri = f"{where}@{reference}" if where else f"urn:core-infra:commit:{history.commit}"
        found.append(Source(uri, {"gitCommit": history.commit}))
    return found


def _history(plan: BuildPlan) -> History:
    context = plan.context
    prefix = context.settings.project.tag_prefix
    return read_history(context.project_dir, prefix=prefix, output=context.output_dir)


def _builder_id() -> str:
    """Who built it, without the single run: https://slsa.dev/spec/v1.0/provenance#builder.id."""
    server, workflow = (os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", _WORKFLOW))
    if os.environ.get("GITHUB_ACTIONS") == "true" and server:
        return f"{server}/{workflow or os.environ.get('GITHUB_REPOSITORY', '')}"
    if os.environ.get("GITLAB_CI") == "true":  # as GitLab's own provenance
        project, runner = (
            os.environ.get(f"CI_{name}", "") for name in ("PROJECT_URL", "RUNNER_ID")
        )
        return f"{project}/-/runners/{runner}"
    return _LOCAL


def _invocation() -> str:
    """The single run; empty outside of CI services."""
    names = ("SERVER_URL", "REPOSITORY", "RUN_ID", "RUN_ATTEMPT")
    server, repository, run, attempt = (os.environ.get(f"GITHUB_{name}", "") for name in names)
    if os.environ.get("GITHUB_ACTIONS") == "true" and run:
        return f"{server}/{repository}/actions/runs/{run}/attempts/{attempt or 1}"
    return os.environ.get("CI_JOB_URL", "")


def _download_location(origin: str) -> str:
    """The address of a remote as ``git+https://…``, without a password; empty for a local one."""
    if match := _SCP.fullmatch(origin):
        origin = f"ssh://{match[1]}/{match[2]}"
    parts = urllib.parse.urlsplit(origin)
    if parts.scheme not in {"https", "http", "ssh", "git"} or not parts.hostname:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"git+{parts.scheme}://{host}{urllib.parse.quote(parts.path, safe='/%')}"
