"""Finds and substitutes the variables of a text: ``${VAR}`` and ``${VAR:-default}``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.linuxkit.yaml_values import MarkedText, substitute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TOKEN = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-|\})|\}")
_DEEPEST = 100


class MissingVariablesError(NotFoundError):
    """Required variables of a text were not given.

    Attributes:
        names: all of them, in the order of the text.
    """


class Variables(NamedTuple):
    """The variables of a text.

    Attributes:
        required: the names of those without a default, in the order of the text.
        optional: the others with their defaults.
    """

    required: list[str]
    optional: dict[str, str]


@dataclass(frozen=True)
class _Place:
    """A variable in a text; its default is a text itself, or None."""

    name: str
    default: Sequence[str | _Place] | None
    source: str


class _Frame(NamedTuple):
    """A variable whose default is being parsed."""

    name: str
    start: int
    parts: list[str | _Place]


def extract_variables(text: str) -> Variables:
    """The variables of a text: the required ones, and those that have a default.

    A variable that occurs with and without a default is required. So is a variable without a
    default within the default of another one.
    """
    required: dict[str, None] = {}
    optional: dict[str, str] = {}
    for place in _all_places(_parse(text)):
        if place.default is None:
            required[place.name] = None
        else:
            optional.setdefault(place.name, _source(place.default))
    for name in required:
        optional.pop(name, None)
    return Variables(list(required), optional)


def apply_variables(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables substituted.

    Values are not expanded again: ``${X}`` in a value stays as it is. In a YAML mapping or
    sequence, a value cannot become structure: a scalar that it would break is quoted.

    Args:
        text: a text with ``${VAR}``, which must be given, and ``${VAR:-default}``. Other forms are
            not variables, and stay.
        variables: the values; those that the text does not have are ignored.

    Raises:
        MissingVariablesError: required variables are not given; names all of them.
        InvalidError: a value stands where YAML does not allow it, as in a tag.
    """
    parts = _parse(text)
    missing = dict.fromkeys(_missing(parts, variables))
    if missing:
        raise MissingVariablesError(
            f"{'a variable is' if len(missing) == 1 else 'variables are'} missing: "
            f"{', '.join(missing)}",
            todo=f"Give {'it' if len(missing) == 1 else 'each'} a value.",
            names=list(missing),
        )
    values: dict[str, str] = {}
    marked = []
    mark = _unused_mark(text)
    for number, part in enumerate(parts):
        if isinstance(part, str):
            marked.append(part)
        else:
            marked.append(word := f"{mark}{number}x")
            values[word] = _value(part, variables)
    return substitute(MarkedText("".join(marked), values, re.compile(f"{mark}[0-9]+x")))


def _parse(text: str) -> list[str | _Place]:
    frames = [_Frame("", 0, [])]
    at = 0
    for match in _TOKEN.finditer(text):
        frames[-1].parts.append(text[at : match.start()])
        at = match.end()
        name, ending = match.groups()
        if ending == ":-":
            frames.append(_Frame(name, match.start(), []))
            _check_depth(len(frames))
        elif ending == "}":
            frames[-1].parts.append(_Place(name, None, match[0]))
        elif len(frames) > 1:
            name, start, parts = frames.pop()
            frames[-1].parts.append(_Place(name, parts, text[start:at]))
        else:
            frames[-1].parts.append(match[0])
    frames[-1].parts.append(text[at:])
    while len(frames) > 1:  # a variable that is not closed is plain text
        name, _, parts = frames.pop()
        frames[-1].parts.extend([f"${{{name}:-", *parts])
    return frames[0].parts


def _check_depth(depth: int) -> None:
    if depth > _DEEPEST:
        raise InvalidError(
            "cannot find the variables of a text",
            why=f"its defaults are nested more than {_DEEPEST} levels deep",
        )


def _all_places(parts: Sequence[str | _Place]) -> Iterator[_Place]:
    for part in parts:
        if not isinstance(part, str):
            yield part
            yield from _all_places(part.default or ())


def _source(parts: Sequence[str | _Place]) -> str:
    return "".join(part if isinstance(part, str) else part.source for part in parts)


def _missing(parts: Sequence[str | _Place], variables: Mapping[str, str]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str) or part.name in variables:
            continue
        if part.default is None:
            yield part.name
        else:
            yield from _missing(part.default, variables)


def _value(part: str | _Place, variables: Mapping[str, str]) -> str:
    if isinstance(part, str):
        return part
    if part.name in variables:
        return variables[part.name]
    return "".join(_value(inner, variables) for inner in part.default or ())


def _unused_mark(text: str) -> str:
    """A word that is a plain scalar anywhere in YAML, and that does not occur in the text."""
    return next(mark for n in count() if (mark := f"CIVAR{n}v") not in text)
