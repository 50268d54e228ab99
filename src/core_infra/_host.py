"""Facts of this host, and names of architectures."""

from __future__ import annotations

from core_infra._unpatched import os

SHORT_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The names of architectures that Debian, Docker and Go use, by those that ``uname -m`` prints."""


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
