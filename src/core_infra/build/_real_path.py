"""Real paths: what other programs (compilers, signing tools) must be given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.build._errors import ArtifactError
from core_infra.medium._local import LocalMedium
from core_infra.medium._paths import clean

if TYPE_CHECKING:
    from core_infra.medium._medium import Medium


def real_path(medium: Medium, path: str) -> str:
    """The absolute path by which a program finds what *path* names on a medium.

    Raises:
        ArtifactError: the medium is not one of real files.
    """
    if not isinstance(medium, LocalMedium):
        raise ArtifactError(
            f"cannot give {path!r} to another program",
            why=f"{medium!r} has no real files",
            todo="Use a LocalMedium.",
        )
    return medium._where(clean(path))  # noqa: SLF001 - the port knows no real paths
