"""Writes all documents of a release."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.build._artifact import Artifact
from core_infra.build._documents.checksums import CHECKSUMS, checksum, write_checksum_file
from core_infra.build._documents.manifest import MANIFEST, write_manifest
from core_infra.build._documents.origin import builder_id, invocation
from core_infra.build._documents.provenance import ENVELOPE, PROVENANCE, write_provenance
from core_infra.build._documents.sbom import SBOM, write_sbom
from core_infra.build._plan import Goal
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.build._documents.account import Account
    from core_infra.build._plan import BuildPlan


def describe(plan: BuildPlan, shipped: Sequence[Artifact], account: Account) -> list[Path]:
    """Write the documents next to the shipped artifacts, in the workspace.

    Args:
        plan: the plan.
        shipped: the artifacts, with their checksums.
        account: what the documents say of how they were made.

    Returns:
        Their paths: those listed in the checksums, the signatures of the checksums, the checksums.

    Raises:
        SigningError: signing the provenance or the checksums failed.
        CoreInfraError: writing failed.
    """
    medium, context = LocalMedium(), plan.context
    top = context.assembly()
    paths = [top / MANIFEST]
    write_manifest(medium, shipped, str(paths[0]), name=context.name, version=context.version)
    if plan.goal is Goal.RELEASE:
        paths += [top / SBOM, top / PROVENANCE]
        write_sbom(
            medium,
            str(paths[1]),
            name=context.name,
            version=context.version,
            artifacts=shipped,
            dependencies=account.dependencies,
            epoch=context.epoch,
            unread=account.unread,
        )
        write_provenance(
            medium,
            shipped,
            str(paths[2]),
            builder=builder_id(),
            parameters=account.parameters,
            tools=account.tools,
            sources=account.sources,
            invocation=invocation(),
            started=account.started,
            finished=int(time.time()),
        )
        if plan.signers.provenance:
            plan.signers.provenance.attest(medium, str(top / PROVENANCE), str(top / ENVELOPE))
            paths.append(top / ENVELOPE)
    listed = [*shipped, *(checksum(medium, Artifact(str(path))) for path in paths)]
    checksums = str(top / CHECKSUMS)
    write_checksum_file(medium, listed, checksums)
    signatures = [Path(one.sign(medium, checksums)) for one in plan.signers.checksums]
    return [*paths, *signatures, Path(checksums)]
