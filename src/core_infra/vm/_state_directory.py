"""The directory of what the user has made and named: machines that stay, and images."""

from __future__ import annotations

from core_infra._unpatched import Path, os

VARIABLE = "CORE_INFRA_STATE_DIR"


def state_directory() -> Path:
    """The directory: ``$CORE_INFRA_STATE_DIR``, by default ``~/.core``."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).absolute() if chosen else Path.home() / ".core"
