"""The names of machines, in clusters and as hosts."""

from __future__ import annotations

import re


def plain_name(name: str) -> str:
    """A machine's name in its cluster: without the cluster's, which follows an at sign."""
    return name.partition("@")[0]


def host_name(name: str) -> str:
    """A machine's name as a host's (RFC 1123): letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", plain_name(name).lower()).strip("-")[:63] or "machine"
