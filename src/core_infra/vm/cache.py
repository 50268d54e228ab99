"""Where core_infra keeps what it may make again: images, verdicts, snapshots."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """The cache directory: ``$CORE_INFRA_CACHE_DIR``, else core-infra's place in the user's own.

    It need not exist yet. Deleting it costs nothing but the time to fill it again.
    """
    chosen = os.environ.get("CORE_INFRA_CACHE_DIR")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("core-infra")
