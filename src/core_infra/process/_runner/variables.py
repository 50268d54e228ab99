"""Variables of task files: ``${NAME}``, and files of them."""

from __future__ import annotations

import os
import posixpath
import re
from functools import partial
from typing import TYPE_CHECKING

from core_infra._suggestions import similar
from core_infra.errors import CoreInfraError, InvalidError
from core_infra.medium._errors import PathNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core_infra.medium._medium import Medium
    from core_infra.process._runner.nodes import Item, Reader


NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REFERENCE = re.compile(rf"\$?\$\{{{NAME.pattern}(?::-[^{{}}]*)?\}}")
"""``${NAME}``, ``${NAME:-default}``, or one of these with one more ``$``, which is not replaced."""

_FOUND = re.compile(rf"\$\$\{{|\$\{{({NAME.pattern})(?::-([^{{}}]*))?\}}|\$\{{")
_ASSIGNMENT = re.compile(rf"(?:export\s+)?({NAME.pattern})\s*=\s*(.*)", re.DOTALL)
_QUOTED = re.compile(r"""'([^']*)'\s*(?:\#.*)?|"((?:\\.|[^"\\])*)"\s*(?:\#.*)?""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def expand(text: str, values: Mapping[str, str | None], complain: Callable[[str], None]) -> str:
    """A text with its variables replaced; what a value says itself is taken as it is.

    Args:
        text: ``$${`` in it stands for ``${``.
        values: of the variables; None is as if there were none.
        complain: hears what is wrong.
    """
    if "${" not in text:
        return text

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name, default = found[1], found[2]
        if name is None:
            complain(
                f"{text!r} has a '${{' that begins no variable: write ${{NAME}} or "
                "${NAME:-default}, in double quotes if there are spaces in it, and $${ for itself"
            )
            return found[0]
        value = values.get(name)
        if default is not None:
            return value or default
        if value is None:
            known = [one for one, held in values.items() if held is not None]
            complain(f"there is no variable {name!r}{similar(name, known)}")
            return found[0]
        return value

    return _FOUND.sub(replace, text)


def read_dotenv(text: str, complain: Callable[[int, str], None]) -> dict[str, str]:
    """Variables of a file with a ``NAME=value`` on each line; nothing in a value is replaced.

    Args:
        text: the file's. ``export`` before a name, empty lines and comments are allowed; values may
            be quoted, and then go over several lines.
        complain: hears what is wrong, with its line.
    """
    found: dict[str, str] = {}
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        first = number
        line = lines[number].strip()
        number += 1
        if not line or line.startswith("#"):
            continue
        assignment = _ASSIGNMENT.fullmatch(line)
        if assignment is None:
            complain(first + 1, f"expected NAME=value, found {line!r}")
            continue
        name, value = assignment.groups()
        if value[:1] not in {"'", '"'}:
            found[name] = re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()
            continue
        while (quoted := _QUOTED.fullmatch(value)) is None and number < len(lines):
            value += "\n" + lines[number]
            number += 1
        if quoted is None:
            complain(first + 1, f"the quotes of {name} are not closed, or something comes after")
            return found
        literal, escaped = quoted.groups()
        found[name] = literal if escaped is None else _ESCAPED.sub(_unescaped, escaped)
    return found


def _unescaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[1], found[1] if found[1] in '"\\$`' else found[0])


def read_text(medium: Medium, path: str) -> str:
    """A file's text.

    Raises:
        InvalidError: it is not written in UTF-8.
        CoreInfraError: it cannot be read.
    """
    try:
        return medium.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidError(
            f"cannot run {path}",
            why=f"it is no text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}",
        ) from None


class Scope:
    """What ``vars``, ``env`` and ``dotenv`` of a file say, above our own environment.

    Args:
        medium: where the files are.
        directory: that of the task file.
        reader: reads it.
        given: values that take the place of those in the file.

    Attributes:
        mistakes: in files of variables: a file, a line and a sentence for each.
    """

    def __init__(
        self, medium: Medium, directory: str, reader: Reader, given: Mapping[str, str]
    ) -> None:
        self.mistakes: list[tuple[str, int, str]] = []
        self._medium = medium
        self._directory = directory
        self._reader = reader
        self._given = given
        self._env: dict[str, str | None] = {}
        self._vars: dict[str, str | None] = dict(given)
        self._values: dict[str, str | None] = {}

    def read(self, top: Mapping[str, Item]) -> None:
        """Take what the file says."""
        read = self._reader
        for item in read.items(top["dotenv"]) if "dotenv" in top else ():
            found = self._dotenv(item)
            # As everywhere: what is set for this run is not undone by a file.
            self._env |= {name: value for name, value in found.items() if name not in os.environ}
        if "vars" in top:
            own = {name: read.text(item) for name, item in self._names(top["vars"])}
            self._vars = {**own, **self._given}
        self._values = {**os.environ, **self._env, **self._vars}
        if "env" in top:
            env = {name: self.variable(item) for name, item in self._names(top["env"])}
            self._env |= {name: self._given.get(name, value) for name, value in env.items()}
            self._values = {**os.environ, **self._env, **self._vars}

    def environment(self, *, script: bool) -> dict[str, str | None]:
        """What is added to the environment of a task.

        Args:
            script: it is one for a shell. Variables are given to it as such: replaced in its text,
                a value could become a part of the script.
        """
        return {**self._env, **self._vars} if script else self._env

    def text(self, item: Item) -> str:
        """A text with its variables replaced."""
        return self.expanded(item, self._reader.text(item))

    def variable(self, item: Item) -> str | None:
        """The same, or None for nothing."""
        value = self._reader.variable(item)
        return None if value is None else self.expanded(item, value)

    def expanded(self, item: Item, text: str) -> str:
        """A text of an item, with its variables replaced."""
        return expand(text, self._values, partial(self._reader.complain, item))

    def _names(self, item: Item) -> list[tuple[str, Item]]:
        entries = self._reader.mapping(item)
        for name, entry in entries.items():
            if not NAME.fullmatch(name):
                self._reader.complain(entry, f"{name!r} cannot be a variable's name")
        return [*entries.items()]

    def _dotenv(self, item: Item) -> dict[str, str]:
        written = self._reader.text(item)
        path = posixpath.join(self._directory, written.removesuffix("?"))
        try:
            text = read_text(self._medium, path)
        except PathNotFoundError:
            if not written.endswith("?"):
                hint = f"write {written + '?'!r} if it may be missing"
                self._reader.complain(item, f"there is no file {path!r}; {hint}")
            return {}
        except CoreInfraError as error:
            self._reader.complain(item, str(error))
            return {}
        return read_dotenv(text, lambda line, why: self.mistakes.append((path, line, why)))
