"""The differences between two trees in memory."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from core_infra._wording import count
from core_infra.medium._nodes import Dir, Link, data_of, info_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from core_infra.medium._nodes import Node

_TEXT_MAX = 1 << 16
_LINES_MAX = 20
_WIDTH_MAX = 160


class Difference(NamedTuple):
    """The differences between two trees; false if there are none. Times are ignored.

    ``str()`` returns one line for each path, ``+`` added, ``-`` removed or ``~`` changed, and for a
    changed text file its first changed lines.

    Attributes:
        added: the paths that only the second tree has, sorted.
        removed: the paths that only the first tree has, sorted.
        changed: the paths whose content, mode or kind differs, sorted.
        text: the result of ``str()``.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    text: str

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        return self.text


def difference(old: Mapping[str, Node], new: Mapping[str, Node]) -> Difference:
    """Compare the entries of two trees; entries that are the same object cost nothing."""
    added = sorted(new.keys() - old.keys())
    removed = sorted(old.keys() - new.keys())
    both = old.keys() & new.keys()
    changed = sorted(path for path in both if not _alike(old[path], new[path]))
    lines = {path: [f"+ {_named(path, new[path])}"] for path in added}
    lines |= {path: [f"- {_named(path, old[path])}"] for path in removed}
    lines |= {path: list(_change(path, old[path], new[path])) for path in changed}
    text = "\n".join(itertools.chain.from_iterable(lines[path] for path in sorted(lines)))
    return Difference(tuple(added), tuple(removed), tuple(changed), text or "no difference")


def _alike(one: Node, other: Node) -> bool:
    if one is other:
        return True
    if isinstance(one, Link) and isinstance(other, Link):
        return one.text == other.text
    if isinstance(one, Dir | Link) or isinstance(other, Dir | Link):
        return type(one) is type(other)
    return data_of(one) == data_of(other) and info_of(one).mode == info_of(other).mode


def _named(path: str, node: Node) -> str:
    path = _safe(path)
    if isinstance(node, Link):
        return f"{path} -> {_safe(node.text)}"
    return f"{path}/" if isinstance(node, Dir) else f"{path} ({count(info_of(node).size, 'byte')})"


def _change(path: str, old: Node, new: Node) -> Iterator[str]:
    if isinstance(old, Dir | Link) or isinstance(new, Dir | Link):
        yield f"~ {_named(path, old)} → {_named(path, new)}"
        return
    facts = []
    before, after = info_of(old), info_of(new)
    if before.mode != after.mode:
        facts.append(f"mode {before.mode:o} → {after.mode:o}")
    if data_of(old) != data_of(new):
        facts.append(f"{before.size} → {count(after.size, 'byte')}")
    yield f"~ {_safe(path)} ({', '.join(facts)})"
    yield from _text_change(data_of(old), data_of(new))


def _text_change(old: bytes | bytearray, new: bytes | bytearray) -> Iterator[str]:
    before, after = _lines(old), _lines(new)
    if before is None or after is None:
        return
    import difflib  # noqa: PLC0415 - most differences are never shown

    changes = list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]
    for line in changes[:_LINES_MAX]:
        yield "    " + _safe(line[:_WIDTH_MAX]) + "…" * (len(line) > _WIDTH_MAX)
    if len(changes) > _LINES_MAX:
        yield f"    … {count(len(changes) - _LINES_MAX, 'more line')}"


def _lines(data: bytes | bytearray) -> list[str] | None:
    if len(data) > _TEXT_MAX or b"\0" in data:
        return None
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError:
        return None


def _safe(text: str) -> str:
    """Escape text for a terminal: names and files may contain any character."""
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
