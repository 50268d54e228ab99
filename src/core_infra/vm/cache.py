"""Where core_infra keeps what it may make again: images, verdicts, snapshots."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def written(what: str, directory: Path) -> Iterator[None]:
    """Files are written to *directory* in the block: an OSError becomes an UnavailableError."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"cannot write {what} to {directory}",
            why=error.strerror or str(error),
            todo="Make room there, or choose another place: with CORE_INFRA_CACHE_DIR for what is "
            "kept, with TMPDIR for machines that run.",
        ) from error


def cache_root() -> Path:
    """The cache directory: ``$CORE_INFRA_CACHE_DIR``, else core-infra's place in the user's own.

    It need not exist yet. Deleting it costs nothing but the time to fill it again.
    """
    chosen = os.environ.get("CORE_INFRA_CACHE_DIR")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("core-infra")
