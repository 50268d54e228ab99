"""Variables of task files: ``${NAME}``, and files of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from core_infra.process.runner.names import similar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
