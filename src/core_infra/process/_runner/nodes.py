"""YAML read with its places: every mistake is told with its line, and all of them at once.

PyYAML's own objects forget where they came from, turn ``1.10`` into 1.1 and ``no`` into False, and
of two equal keys keep the last without a word. Here its nodes are read as they are written.
"""

from __future__ import annotations

import difflib
import signal
from typing import TYPE_CHECKING, NamedTuple

import yaml

from core_infra._suggestions import similar

if TYPE_CHECKING:
    from collections.abc import Collection

_MAX_DIGITS = 18

_TAGS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
    "str": "a text",
    "seq": "a list",
    "map": "a mapping",
}


_SIGNALS = [
    spelling for name in signal.Signals.__members__ for spelling in (name, name.removeprefix("SIG"))
]


class Item(NamedTuple):
    """A node, and what it is called in messages (``tasks.lint.after``)."""

    node: yaml.Node
    where: str

    @property
    def line(self) -> int:
        """The line that it begins on, from 1."""
        line: int = self.node.start_mark.line
        return line + 1


class Reader:
    """Reads typed values from nodes, and collects what is wrong with them.

    Attributes:
        mistakes: a line and a sentence for each.
    """

    def __init__(self) -> None:
        self.mistakes: list[tuple[int, str]] = []

    def parse(self, text: str) -> Item | None:
        """The document; None if there is none."""
        line, why = 1, "the file is empty"
        try:
            node = yaml.compose(text, yaml.SafeLoader)
            if node is not None:
                return Item(node, "")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, why = mark.line + 1 if mark else 1, error.problem or "this is no YAML"
            if why.endswith("'?'"):  # PyYAML takes it for the mark of a key
                why += ": put a text with a '?' in quotes"
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            why = f"YAML forbids the character {chr(error.character)!r}"
        except RecursionError:
            why = "it is nested too deeply"
        self.mistakes.append((line, why))
        return None

    def complain(self, item: Item, text: str) -> None:
        """Note a mistake."""
        self.mistakes.append((item.line, f"{item.where}: {text}" if item.where else text))

    def mapping(self, item: Item) -> dict[str, Item]:
        """The entries of a mapping; merge keys (``<<``) give way to the mapping's own."""
        if not isinstance(item.node, yaml.MappingNode):
            self._expected(item, "a mapping")
            return {}
        own: dict[str, Item] = {}
        merged: dict[str, Item] = {}
        for key, value in item.node.value:
            name = key.value
            if key.tag == "tag:yaml.org,2002:merge":
                for source in self._merged(Item(value, item.where)):
                    merged = self.mapping(source) | merged
            elif not isinstance(key, yaml.ScalarNode):
                self.complain(Item(key, item.where), "a key must be a text")
            elif name in own:
                text = f"{name!r} is there twice, first on line {own[name].line}"
                self.complain(Item(key, item.where), text)
            else:
                own[name] = Item(value, f"{item.where}.{name}" if item.where else name)
        return merged | own

    def known(self, item: Item, fields: Collection[str]) -> dict[str, Item]:
        """The entries of a mapping that may have only these."""
        found = self.mapping(item)
        for name in found.keys() - fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"is {close[0]!r} meant?" if close else f"there are: {', '.join(fields)}"
            self.complain(found[name], f"there is no such field; {hint}")
        return {name: entry for name, entry in found.items() if name in fields}

    def text(self, item: Item) -> str:
        """A scalar, as it is written."""
        if not isinstance(item.node, yaml.ScalarNode) or _kind(item.node) == "null":
            self._expected(item, "a text")
            return ""
        return str(item.node.value)

    def texts(self, item: Item) -> list[str]:
        """A list of scalars."""
        return [self.text(one) for one in self.items(item)]

    def items(self, item: Item) -> list[Item]:
        """The entries of a list."""
        if not isinstance(item.node, yaml.SequenceNode):
            self._expected(item, "a list")
            return []
        return [
            Item(node, f"{item.where}[{number}]") for number, node in enumerate(item.node.value)
        ]

    def flag(self, item: Item) -> bool:
        """True or false."""
        if _kind(item.node) != "bool":
            self._expected(item, "true or false")
            return False
        return item.node.value.lower() in {"true", "yes", "on"}

    def whole(self, item: Item, least: int) -> int:
        """A whole number."""
        digits = item.node.value
        if _kind(item.node) == "int" and digits.isdecimal() and len(digits) <= _MAX_DIGITS:
            value = int(item.node.value)
            if value >= least:
                return value
        self._expected(item, f"a whole number of at least {least}")
        return least

    def line(self, item: Item) -> str:
        """A text of one line."""
        text = self.text(item).strip()
        if "\n" in text:
            self.complain(item, "expected one line of text, found several")
            return ""
        return text

    def variable(self, item: Item) -> str | None:
        """A scalar, or None for nothing."""
        return None if _kind(item.node) == "null" else self.text(item)

    def signal(self, item: Item) -> int:
        """A signal by its name, with or without SIG, or by its number."""
        text = self.text(item)
        names = signal.Signals.__members__
        number = names.get(text) or names.get(f"SIG{text}")
        if number is None and text.isdecimal() and int(text) in signal.valid_signals():
            return int(text)
        if number is None:
            self.complain(item, f"there is no signal {text!r}{similar(text.upper(), _SIGNALS)}")
            return signal.SIGTERM
        return number

    def seconds(self, item: Item, *, or_none: bool = False) -> float:
        """A number above 0, or 0 if there may be *none*."""
        if _kind(item.node) in {"int", "float"}:
            try:
                value = float(item.node.value)
            except ValueError:  # YAML has numbers that are none in Python: 1:30, .inf
                value = 0.0
            if 0 < value < float("inf") or (or_none and item.node.value == "0"):
                return value
        self._expected(item, f"a number of seconds{', 0 or more' if or_none else ' above 0'}")
        return 1.0

    def _merged(self, item: Item) -> list[Item]:
        return self.items(item) if isinstance(item.node, yaml.SequenceNode) else [item]

    def _expected(self, item: Item, what: str) -> None:
        kind = _kind(item.node)
        found = _TAGS.get(kind, kind)
        if isinstance(item.node, yaml.ScalarNode) and kind != "null":
            found = f"{found}: {item.node.value!r}"
        self.complain(item, f"expected {what}, found {found}")


def _kind(node: yaml.Node) -> str:
    return str(node.tag).rpartition(":")[2]
