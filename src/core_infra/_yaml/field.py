"""Values of a YAML document: each is read as a type, and knows its path and its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn, TypeVar

import yaml

from core_infra._wording import similar
from core_infra._yaml.document import DEPTH_MAX, TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from core_infra._yaml.document import Document, Entries

    T = TypeVar("T")
    D = TypeVar("D")
    N = TypeVar("N", bound=yaml.Node)

_MERGE = f"{TAG}merge"
_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "a boolean",
    "timestamp": "a date",
    "null": "nothing",
    "seq": "a list",
    "map": "a mapping",
}
_FORMS = {"seq": yaml.SequenceNode, "map": yaml.MappingNode}
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_SHOWN = 60
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")
"""Characters that no path, argument or file can have."""


class Wrong(Exception):  # noqa: N818 - never leaves the reader
    """A value has a mistake, which is noted already."""


class Field:
    """A value of a document.

    Args:
        document: of which it is a part.
        node: the value; None if the field is missing.
        name: the path of the field, as in ``targets[0].os``; empty for the root.
        key: its key, if it is in a mapping.
        at: where it should be, if it is missing.
        private: whether the value may be a secret. Errors do not show it.
    """

    __slots__ = ("_at", "_document", "_key", "_private", "name", "node")

    def __init__(
        self,
        document: Document,
        node: yaml.Node | None,
        name: str,
        *,
        key: yaml.Node | None = None,
        at: yaml.Mark | None = None,
        private: bool = False,
    ) -> None:
        document.count()
        self._document = document
        self._key = key
        self._at = at if node is None else node.start_mark
        self._private = private
        self.node = node
        self.name = name

    @property
    def kind(self) -> str:
        """What YAML takes it for: str, int, float, bool, timestamp, null, seq, map or a tag."""
        if self.node is None:
            return "missing"
        kind = str(self.node.tag).removeprefix(TAG)
        if kind in {"value", "merge"}:  # an "=" and a "<<" are special among keys alone
            kind = "str"
        form = _FORMS.get(kind, yaml.ScalarNode)
        return kind if kind not in _KINDS or isinstance(self.node, form) else f"!!{kind}"

    @property
    def key(self) -> str:
        """Its key as it is written; empty if it is not in a mapping."""
        return str(self._key.value) if self._key else ""

    @property
    def scalar(self) -> str:
        """A scalar as it is written, whatever its kind; empty if it is not a scalar."""
        return str(self.node.value) if isinstance(self.node, yaml.ScalarNode) else ""

    @property
    def line(self) -> int:
        """The line that it begins on, from 1."""
        return self._document.place(self._at)[0]

    def private(self) -> Field:
        """The same, with a value that errors do not show."""
        return Field(self._document, self.node, self.name, key=self._key, at=self._at, private=True)

    # What is wrong.

    def note(self, message: str, expected: str = "") -> None:
        """Note a mistake of this field."""
        line, column = self._document.place(self._at)
        self._document.note(line, column, self.name, message, expected)

    def note_key(self, message: str, expected: str = "") -> None:
        """Note a mistake of this field's key."""
        line, column = self._document.place(self._key.start_mark if self._key else self._at)
        self._document.note(line, column, self.name, message, expected)

    def fail(self, message: str, expected: str = "") -> NoReturn:
        """Note a mistake of this field, and give up on it."""
        self.note(message, expected)
        raise Wrong

    def reject(self, expected: str, hint: str = "") -> NoReturn:
        """Note what was expected and what was found, and give up on the field."""
        if self.node is None:
            self.fail(f"missing field; expected {expected}", expected)
        self.fail(f"expected {expected}, found {self._found()}{hint}", expected)

    # Structures.

    def fields(self, known: Collection[str]) -> Fields:
        """The fields of a mapping that can have only these."""
        null_is_missing = self._document.null_is_missing
        given: dict[str, Field] = {}
        if null_is_missing and self.kind == "null":
            return Fields(self, given)
        for name, field in self.entries().items():
            if name not in known:
                names = ", ".join(sorted(known))
                hint = similar(name, known) or f"; expected one of {names}"
                field.note_key(f"unknown field{hint}", f"one of {names}")
            elif field.kind != "null" or not null_is_missing:
                given[name] = field
        return Fields(self, given)

    def entries(self) -> dict[str, Field]:
        """The values of a mapping with any keys."""
        return {
            name: Field(self._document, value, self.inner(name), key=key, private=self._private)
            for name, (key, value) in self._pairs().items()
        }

    def items(self) -> list[Field]:
        """The values of a list."""
        nodes = self._check(yaml.SequenceNode, "seq", "a list").value
        return [
            Field(self._document, node, f"{self.name}[{index}]", private=self._private)
            for index, node in enumerate(nodes)
        ]

    def take(self, read: Callable[[Field], T], default: D) -> T | D:
        """What *read* makes of it, or the default if that has a mistake."""
        try:
            return read(self)
        except Wrong:
            return default

    def missing(self, key: str) -> Field:
        """A field of this mapping that is not given: whatever reads it notes that."""
        return Field(self._document, None, self.inner(key), at=self._at)

    def inner(self, key: str) -> str:
        """The path of a field of this mapping."""
        key = _short(key if key.isprintable() else ascii(key))
        return f"{self.name}.{key}" if self.name else key

    # Values.

    def string(self, expected: str = "a string") -> str:
        """A string; a number, or ``no`` without quotes, is a mistake.

        Args:
            expected: what should be there if the field is missing.
        """
        if self.node is None:
            self.reject(expected)
        if self.kind != "str":
            is_other = self.kind in {"int", "float", "bool", "timestamp"}
            self.reject("a string", "; put it in quotes" if is_other else "")
        return self._text()

    def text(self) -> str:
        """A scalar as it is written: ``1.10`` and ``no`` are strings like any other."""
        if not isinstance(self.node, yaml.ScalarNode) or self.kind == "null":
            self.reject("a string")
        return self._text()

    def text_line(self) -> str:
        """A scalar of one line, without spaces around it."""
        text = self.text().strip()
        if "\n" in text:
            self.fail("expected one line of text, found several", "one line of text")
        return text

    def flag(self) -> bool:
        """True or false."""
        found = _FLAGS.get(self.scalar.lower()) if self.kind == "bool" else None
        if found is None:
            self.reject("true or false")
        return found

    def value(self) -> str | float | bool | None:
        """A scalar as YAML 1.1 understands it; dates and unknown tags are mistakes."""
        expected = "a string, a number, true or false"
        if self.kind == "str":
            return self._text()
        if self.kind not in {"int", "float", "bool", "null"}:
            self.reject(expected)
        try:
            found: float | bool | None = yaml.SafeLoader("").construct_object(self.node)
        except (ValueError, KeyError, IndexError, OverflowError):  # as of "!!int x"
            self.reject(expected)
        return found

    def _pairs(self) -> Entries:
        """The keys and values of a mapping; merge keys (``<<``) give way to its own."""
        document, node = self._document, self._check(yaml.MappingNode, "map", "a mapping")
        known = document.merged.get(id(node))
        if known is not None:
            return known
        if id(node) in document.merging or len(document.merging) == DEPTH_MAX:
            self.fail(f"it is merged into itself, or more than {DEPTH_MAX} levels deep")
        own: Entries = {}
        merged: Entries = {}
        document.merging.add(id(node))
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in Field(document, value, self.name).take(_sources, []):
                    merged = {**source.take(Field._pairs, {}), **merged}
            elif not isinstance(key, yaml.ScalarNode) or _FORBIDDEN.search(key.value):
                text = "a key must be a string without NUL and surrogates"
                Field(document, key, self.name).note(text, "a string")
            elif key.value in own:
                line, _ = document.place(own[key.value][0].start_mark)
                twice = Field(document, value, self.inner(key.value), key=key)
                twice.note_key(f"duplicate field; it is first on line {line}", "each field once")
            else:
                own[key.value] = (key, value)
        document.merging.remove(id(node))
        return document.merged.setdefault(id(node), {**merged, **own})

    def _text(self) -> str:
        text = self.scalar
        if _FORBIDDEN.search(text):
            self.reject("a string without NUL and surrogates")
        return text

    def _check(self, form: type[N], kind: str, expected: str) -> N:
        if not isinstance(self.node, form) or self.kind != kind:
            self.reject(expected)
        return self.node

    def _found(self) -> str:
        word = _KINDS.get(self.kind)
        if word is None:
            return f"the tag {_short(self.kind)!r}"
        if self.kind in {"seq", "map", "null"} or self._private:
            return word
        return f"{word}: {_short(self.scalar)!r}"


class Fields(Mapping[str, Field]):
    """The fields of a mapping that are given, by name."""

    def __init__(self, owner: Field, given: Mapping[str, Field]) -> None:
        self._owner = owner
        self._given = given

    def __getitem__(self, name: str) -> Field:
        return self._given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def optional(self, name: str, read: Callable[[Field], T], default: D) -> T | D:
        """What *read* makes of a field; the default if it is missing or has a mistake."""
        return self._given[name].take(read, default) if name in self._given else default

    def required(self, name: str, read: Callable[[Field], T], default: D) -> T | D:
        """What *read* makes of a field; the default if it has a mistake, as if it is missing."""
        return (self._given.get(name) or self._owner.missing(name)).take(read, default)

    def section(self, name: str, known: Collection[str], *, private: bool = False) -> Fields:
        """The fields of a mapping in this one; none if it is missing or has a mistake.

        Args:
            name: the mapping's.
            known: the fields that it can have.
            private: whether their values may be secrets. Errors do not show them.
        """

        def read(field: Field) -> Fields:
            return (field.private() if private else field).fields(known)

        return self.optional(name, read, Fields(self._owner.missing(name), {}))


def _sources(value: Field) -> list[Field]:
    """The mappings that a merge key names."""
    found = value.items() if isinstance(value.node, yaml.SequenceNode) else [value]
    for one in found:
        if not isinstance(one.node, yaml.MappingNode):
            one.reject("a mapping to merge")
    return found


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
