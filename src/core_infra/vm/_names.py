"""The names of machines, in clusters and as hosts, and the paths of files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeGuard

from core_infra._unpatched import os
from core_infra.errors import InvalidError


def plain_name(name: str) -> str:
    """A machine's name in its cluster: without the cluster's, which follows an at sign."""
    return name.partition("@")[0]


def is_plain_name(value: object) -> TypeGuard[str]:
    """Whether a value can be the name of a machine in its cluster, or of a cluster."""
    return isinstance(value, str) and value != "" and plain_name(value) == value


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


def name_of(machine: object) -> str:
    """The name of a machine in its cluster; *machine*: it, or its name.

    Raises:
        InvalidError: it is neither.
    """
    name = machine if isinstance(machine, str) else getattr(machine, "name", None)
    if isinstance(name, str) and (machine is name or hasattr(machine, "status")):
        plain = plain_name(name)
        if plain and plain.isprintable():
            return plain
    raise InvalidError(f"{machine!r} is not a machine", todo="Give a machine, or its name.")


def several(values: object) -> list[Any]:
    """Values of an argument that takes several, or one."""
    if isinstance(values, Iterable) and not isinstance(values, str):
        return list(values)
    return [values]
