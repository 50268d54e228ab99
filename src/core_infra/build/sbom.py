"""A release's bill of materials, as CycloneDX: https://cyclonedx.org/docs/1.6/json/."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core_infra.build.errors import ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core_infra.build.artifact import Artifact
    from core_infra.build.dependencies import Dependency
    from core_infra.medium.medium import Medium

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
    """Write what a release is made of; the same input gives the same bytes.

    Args:
        medium: where to write.
        path: the file, usually ``dist/sbom.cdx.json``.
        name: the project's name.
        version: the release's.
        artifacts: the release's files, each with its checksum.
        dependencies: what is inside, see :func:`core_infra.build.dependencies.dependencies`.
        epoch: the release's time, in seconds since 1970.

    Raises:
        ToolMissingError: the extra ``build`` is not installed.
    """
    try:
        from core_infra.build import cyclonedx  # noqa: PLC0415 - an extra
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
