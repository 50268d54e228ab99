"""What the readers of lock files return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Dependency(NamedTuple):
    """A package and its version.

    Attributes:
        kind: its type in package URLs: golang, npm, composer, cargo, pypi.
        name: its full name.
        version: its version; empty if it is not known.
    """

    kind: str
    name: str
    version: str


def reachable(roots: Iterable[Any], following: Callable[[Any], Iterable[Any]]) -> list[Any]:
    """All that can be reached from the roots, each once, in order."""
    found = dict.fromkeys(roots)
    waiting = list(found)
    while waiting:
        new = [one for one in following(waiting.pop()) if one not in found]
        found.update(dict.fromkeys(new))
        waiting += new
    return list(found)


def table(value: object) -> dict[str, Any]:
    """The value if it is a table; otherwise an empty one."""
    return value if isinstance(value, dict) else {}
