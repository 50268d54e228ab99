"""The names of machines, in clusters and as hosts, and the paths of files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeGuard

from core_infra._unpatched import os
from core_infra.errors import InvalidError


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


def name_of(machine: object) -> str:
    """The name of a machine in its cluster; *machine*: it, or its name.

    Raises:
        InvalidError: it is neither.
    """
    name = machine if isinstance(machine, str) else getattr(machine, "name", None)
    if isinstance(name, str) and (machine is name or hasattr(machine, "status")):
        return plain_name(name)
    raise InvalidError(f"{machine!r} is not a machine", todo="Give a machine, or its name.")


def names_of(machines: object) -> list[str]:
    """The names of machines in their cluster; *machines*: several, or one.

    Raises:
        InvalidError: one of them is not a machine.
    """
    if isinstance(machines, Iterable) and not isinstance(machines, str):
        return [name_of(machine) for machine in machines]
    return [name_of(machines)]
