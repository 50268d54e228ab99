"""Reading YAML by its nodes, so that each mistake is told with its line and its field.

Aliases cannot blow up here: a reader asks for the few fields that its schema has, and never walks
what it did not ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import yaml

from core_infra.build._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")

_SIZE_MAX = 256 << 10
_DEPTH_MAX = 32
_TAG = "tag:yaml.org,2002:"
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number with a point",
    "bool": "true or false",
    "seq": "a list",
    "map": "a mapping",
    "null": "nothing",
    "timestamp": "a date",
}
_NULL = yaml.ScalarNode(f"{_TAG}null", "")
_PRIVATE = "sign."
"""Where values may be passwords, which no error shows."""
_SHOWN = 60


class Field:
    """One node of the document, and how errors name it.

    Args:
        node: the node.
        name: where it is from the top, as in ``targets[0].os``; empty for the top.
        file: the path of the document.
    """

    def __init__(self, node: yaml.Node, name: str, file: str) -> None:
        self.node = node
        self.name = name
        self._file = file

    @property
    def given(self) -> bool:
        """Whether there is a value: the field is neither missing nor null."""
        return self.node.tag != f"{_TAG}null"

    def fail(self, expected: str, *, why: str = "", todo: str = "") -> NoReturn:
        """Raise the error for this field.

        Args:
            expected: what should be there.
            why: what is wrong; by default what was found.
            todo: what to do.
        """
        why = why or f"expected {expected}, found {self._found()}"
        line, column = _place(self.node.start_mark)
        raise config_error(self._file, line, column, self.name, expected, why=why, todo=todo)

    def mapping(self, known: Collection[str]) -> dict[str, Field]:
        """The fields of a mapping, of which each name of *known* has one, given or not.

        Raises:
            ConfigError: it is no mapping, or has a key twice or one that is not *known*.
        """
        if self.given:
            self._check_is(yaml.MappingNode, "map", "a mapping")
        # What is missing is told where it should be.
        nothing = yaml.ScalarNode(f"{_TAG}null", "", self.node.start_mark)
        fields = {key: Field(nothing, self._inner(key), self._file) for key in known}
        pairs = self.node.value if self.given else []
        seen = set()
        for key_node, node in pairs:
            key = Field(key_node, self.name, self._file).text()
            inner = Field(key_node, self._inner(_short(key)), self._file)
            if key not in known:
                names = ", ".join(sorted(known))
                inner.fail(f"one of {names}", why=f"unknown key; known are {names}")
            if key in seen:
                inner.fail("each key once", why="the key is there twice")
            seen.add(key)
            fields[key] = Field(node, inner.name, self._file)
        return fields

    def items(self) -> list[Field]:
        """The fields of a list."""
        self._check_is(yaml.SequenceNode, "seq", "a list")
        nodes = enumerate(self.node.value)
        return [Field(node, f"{self.name}[{index}]", self._file) for index, node in nodes]

    def text(self) -> str:
        """A string; a number or ``no`` without quotes is none."""
        value = self._scalar("str", "a string")
        if "\0" in value:
            self.fail("a string without NUL")
        return value

    def flag(self) -> bool:
        """A boolean."""
        return self._scalar("bool", "true or false").lower() in {"true", "yes", "on"}

    def number(self) -> int:
        """A whole number, in decimal digits."""
        text = self._scalar("int", "a whole number")
        if not text.isascii() or not text.isdigit() or len(text) > len("999999999"):
            self.fail("a whole number in decimal digits")
        return int(text)

    def get(self, read: Callable[[Field], T], default: T) -> T:
        """What *read* makes of the field, or the default if it is missing or null."""
        return read(self) if self.given else default

    def list_of(self, read: Callable[[Field], T], default: tuple[T, ...] = ()) -> tuple[T, ...]:
        """A list, each item by *read*; the default if it is missing or null."""
        return tuple(read(item) for item in self.items()) if self.given else default

    def _scalar(self, kind: str, expected: str) -> str:
        is_plain = isinstance(self.node, yaml.ScalarNode) and self.given
        quote = is_plain and kind == "str"
        self._check_is(yaml.ScalarNode, kind, expected, todo="Put it in quotes." if quote else "")
        return str(self.node.value)

    def _check_is(self, form: type[yaml.Node], kind: str, expected: str, todo: str = "") -> None:
        if not isinstance(self.node, form) or self.node.tag != _TAG + kind:
            self.fail(expected, todo=todo)

    def _found(self) -> str:
        tag = self.node.tag
        word = _WORDS.get(tag.removeprefix(_TAG)) if tag.startswith(_TAG) else None
        if word is None:
            return f"the tag {_short(tag)}"
        is_private = self.name.startswith(_PRIVATE)
        if isinstance(self.node, yaml.ScalarNode) and self.given and not is_private:
            return f"{word}: {_short(self.node.value)!r}"
        return word

    def _inner(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def read_document(data: bytes, file: str) -> Field:
    """Read one YAML document of a file.

    Args:
        data: the file's content.
        file: its path, for errors.

    Raises:
        ConfigError: it is too big, not UTF-8, no YAML, nested too deep, or several documents.
    """
    if len(data) > _SIZE_MAX:
        expected = f"at most {_SIZE_MAX >> 10} KiB"
        raise config_error(file, 1, 1, "", expected, why=f"the file is larger than {expected[8:]}")
    text = _decode(data, file)
    try:
        # Depth is looked at first, by the parser, which keeps a stack of its own; composing
        # recurses.
        _check_depth(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        why = " ".join(filter(None, (error.context, error.problem)))
        raise config_error(
            file, line, column, "", "valid YAML", why=f"no valid YAML: {why}"
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        why = f"the character U+{error.character:04X} is not allowed"
        raise config_error(file, line, 1, "", "printable characters", why=why) from None
    return Field(_NULL if node is None else node, "", file)


def config_error(
    file: str, line: int, column: int, field: str, expected: str, *, why: str, todo: str = ""
) -> ConfigError:
    """Make the error for one mistake."""
    where = f"{file}, line {line}"
    return ConfigError(
        f"{where}, {field}" if field else where,
        why=why,
        todo=todo,
        file=file,
        line=line,
        column=column,
        field=field,
        expected=expected,
    )


def _decode(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise config_error(file, line, 1, "", "UTF-8", why="the file is not UTF-8") from None


def _check_depth(text: str, file: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH_MAX:
            line, _ = _place(event.start_mark)
            expected = f"at most {_DEPTH_MAX} levels"
            raise config_error(file, line, 1, "", expected, why="it is nested too deep")


def _place(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
