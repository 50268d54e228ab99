"""The bill of materials of a release (SBOM).

The SBOM is in CycloneDX format: https://cyclonedx.org/docs/1.6/json/.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core_infra.build._errors import ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from core_infra.build._artifact import Artifact
    from core_infra.build._documents.lock_files.dependency import Dependency
    from core_infra.medium._medium import Medium


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
    unread: Iterable[str] = (),
) -> None:
    """Write the bill of materials of a release; the same input gives the same bytes.

    Args:
        medium: where to write.
        path: the file, usually ``dist/sbom.cdx.json``.
        name: the project's name.
        version: the release's version.
        artifacts: the release's files, with their checksums.
        dependencies: the packages that it contains, see :func:`dependencies`.
        epoch: the release's time, in seconds since 1970.
        unread: why the dependencies may be incomplete, one sentence each.

    Raises:
        ToolMissingError: the extra ``build`` is not installed.
    """
    try:
        from core_infra.build._documents import cyclonedx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ToolMissingError(
            "a bill of materials needs cyclonedx-python-lib",
            why="it is not installed",
            todo="Install it with: pip install core-infra[build]",
            tool="cyclonedx-python-lib",
        ) from error
    when = datetime.fromtimestamp(epoch, UTC)
    text = cyclonedx.document(name, version, artifacts, dependencies, when=when, unread=unread)
    medium.write_text(path, f"{text}\n")
