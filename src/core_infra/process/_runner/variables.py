"""Variables of task files: ``${NAME}``, dotenv files, and commands in which they occur."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from typing import TYPE_CHECKING

from core_infra._wording import similar
from core_infra._yaml.field import Field
from core_infra._yaml.reading import each
from core_infra.errors import CoreInfraError, InvalidError, Mistake
from core_infra.medium._errors import PathNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core_infra._yaml.field import Fields
    from core_infra.medium._medium import Medium


NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REFERENCE = re.compile(rf"\$?\$\{{{NAME.pattern}(?::-[^{{}}]*)?\}}")
"""``${NAME}``, ``${NAME:-default}``, or one of these with one more ``$``, which is not replaced."""

_FOUND = re.compile(rf"\$\$\{{|\$\{{({NAME.pattern})(?::-([^{{}}]*))?\}}|\$\{{")
_ASSIGNMENT = re.compile(rf"(?:export\s+)?({NAME.pattern})\s*=\s*(.*)", re.DOTALL)
_QUOTED = re.compile(r"""'([^']*)'\s*(?:\#.*)?|"((?:\\.|[^"\\])*)"\s*(?:\#.*)?""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}

_QUOTED_WORD = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_EXPANDED = re.compile(r"[$`]|\\\n")
"""What a shell expands within double quotes."""
_FOR_A_SHELL = re.compile(r"[|&;<>()$`*\n]")
"""What has a meaning for a shell, while here the program would get it unchanged."""
_DOLLAR = "\0"
"""Replaces a protected dollar while variables are replaced; no command can contain it."""


def expand(text: str, values: Mapping[str, str | None], complain: Callable[[str], None]) -> str:
    """Replace the variables in a text; variables in their values are not replaced.

    Args:
        text: ``$${`` in it stands for ``${``.
        values: of the variables; None: not set.
        complain: called with each mistake.
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
        complain: called with the line and text of each mistake.
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


def split_command(text: str) -> list[str]:
    """Split a command into words as a shell would, before its variables are replaced.

    :func:`unprotect` must be applied to each word after that.

    Raises:
        ValueError: it cannot be split, or needs a shell.
    """
    if found := _FOR_A_SHELL.search(_QUOTED_WORD.sub(_expanded_part, REFERENCE.sub("", text))):
        hint = "write it under 'shell' instead of 'command', or within single quotes"
        raise ValueError(f"{found[0]!r} needs a shell: {hint}")
    if _DOLLAR in text:
        raise ValueError("a NUL character is in the command")
    try:
        return shlex.split(_QUOTED_WORD.sub(_protect, text))
    except ValueError as error:
        raise ValueError(f"{error} in {text!r}") from None


def unprotect(word: str) -> str:
    """Restore the protected dollars of a word."""
    return word.replace(_DOLLAR, "$")


def _expanded_part(quoted: re.Match[str]) -> str:
    return "".join(_EXPANDED.findall(quoted[0])) if quoted[0][0] == '"' else ""


def _protect(quoted: re.Match[str]) -> str:
    return quoted[0] if quoted[0][0] == '"' else quoted[0].replace("$", _DOLLAR)


class Scope:
    """What ``vars``, ``env`` and ``dotenv`` of a file say, above our own environment.

    Args:
        medium: where the files are.
        directory: that of the task file.
        given: values that take the place of those in the file.

    Attributes:
        mistakes: those in files of variables.
    """

    def __init__(self, medium: Medium, directory: str, given: Mapping[str, str]) -> None:
        self.mistakes: list[Mistake] = []
        self._medium = medium
        self._directory = directory
        self._given = given
        self._env: dict[str, str | None] = {}
        self._vars: dict[str, str | None] = dict(given)
        self._values: dict[str, str | None] = {}

    def read(self, top: Fields) -> None:
        """Take what the file says."""
        for found in top.optional("dotenv", each(self._dotenv), ()):
            # As everywhere: what is set for this run is not undone by a file.
            self._env |= {name: value for name, value in found.items() if name not in os.environ}
        self._vars = {**top.optional("vars", _named(Field.text), {}), **self._given}
        self._values = {**os.environ, **self._env, **self._vars}
        env = top.optional("env", _named(self.variable), {})
        self._env |= {name: self._given.get(name, value) for name, value in env.items()}
        self._values = {**os.environ, **self._env, **self._vars}

    def environment(self, *, script: bool) -> dict[str, str | None]:
        """What is added to the environment of a task.

        Args:
            script: it is one for a shell. Variables are given to it as such: replaced in its text,
                a value could become a part of the script.
        """
        return {**self._env, **self._vars} if script else self._env

    def text(self, field: Field) -> str:
        """A string with its variables replaced."""
        return self.expanded(field, field.text())

    def variable(self, field: Field) -> str | None:
        """The same, or None for nothing."""
        return None if field.kind == "null" else self.text(field)

    def expanded(self, field: Field, text: str) -> str:
        """A text of a field, with its variables replaced."""
        return expand(text, self._values, field.note)

    def _dotenv(self, field: Field) -> dict[str, str]:
        written = field.text()
        path = posixpath.join(self._directory, written.removesuffix("?"))
        try:
            text = _read_text(self._medium, path)
        except PathNotFoundError:
            if written.endswith("?"):
                return {}
            field.fail(f"there is no file {path!r}; write {written + '?'!r} if it may be missing")
        except CoreInfraError as error:
            field.fail(str(error))
        return read_dotenv(
            text, lambda line, why: self.mistakes.append(Mistake(path, line, "", why))
        )


def _named(
    read: Callable[[Field], str | None],
) -> Callable[[Field], dict[str, str | None]]:
    """Reads variables. No error shows their values: they may be secrets."""

    def read_all(field: Field) -> dict[str, str | None]:
        entries = field.private().entries()
        for name, entry in entries.items():
            if not NAME.fullmatch(name):
                entry.note_key(f"{name!r} cannot be a variable's name")
        # What has a mistake is a variable, too: that it is used is not another mistake.
        return {name: entry.take(read, "") for name, entry in entries.items()}

    return read_all


def _read_text(medium: Medium, path: str) -> str:
    try:
        return medium.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise InvalidError(
            f"cannot use {path}", why=f"the file is not text in UTF-8: {found}"
        ) from None
