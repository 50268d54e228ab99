"""The names of machines, in clusters and as hosts, and the paths of files."""

from __future__ import annotations

import re
from typing import TypeGuard

from core_infra._unpatched import os


def plain_name(name: str) -> str:
    """A machine's name in its cluster: without the cluster's, which follows an at sign."""
    return name.partition("@")[0]


def host_name(name: str) -> str:
    """A machine's name as a host's (RFC 1123): letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", plain_name(name).lower()).strip("-")[:63] or "machine"


def is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a value can be the path of a file of this host."""
    if not isinstance(value, str | os.PathLike):
        return False
    text: object = os.fspath(value)
    try:
        return isinstance(text, str) and text != "" and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
