"""``${VAR}`` and ``${VAR:-default}`` in a text: which there are, and the text with their values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.linuxkit.yaml_values import Marked, fill

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TOKEN = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-|\})|\}")
_DEEPEST = 100


class MissingVariablesError(NotFoundError):
    """Variables that a text needs were not given.

    Attributes:
        names: all of them, in the order in which they stand in the text.
    """


class Variables(NamedTuple):
    """What a text can be given.

    Attributes:
        required: the names without a default, in order.
        optional: the others with their defaults.
    """

    required: list[str]
    optional: dict[str, str]


@dataclass(frozen=True)
class _Place:
    """A variable in a text; its default is a text of its own, or None."""

    name: str
    default: Sequence[str | _Place] | None
    source: str


class _Frame(NamedTuple):
    """A variable whose default has begun."""

    name: str
    start: int
    parts: list[str | _Place]


def extract_variables(text: str) -> Variables:
    """The variables of a text: those it needs, and those that have a default.

    One that stands there with a default and, elsewhere, without is required. So is one within
    another's default.
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
    """The text with its variables filled in.

    A value is never looked into again: ``${X}`` in it stays as it is. Where the text is a YAML
    mapping or sequence, a value stays a value: a scalar that it would break is quoted.

    Args:
        text: with ``${VAR}``, which must be given, and ``${VAR:-default}``. What looks otherwise
            is no variable and stays.
        variables: the values; what the text does not have is ignored.

    Raises:
        MissingVariablesError: names all that are needed and not given.
        InvalidError: a value stands where YAML can't have it, as in a tag.
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
    return fill(Marked("".join(marked), values, re.compile(f"{mark}[0-9]+x")))


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
    while len(frames) > 1:  # what has no end is no variable
        name, _, parts = frames.pop()
        frames[-1].parts.extend([f"${{{name}:-", *parts])
    return frames[0].parts


def _check_depth(depth: int) -> None:
    if depth > _DEEPEST:
        raise InvalidError(
            "the variables of a text cannot be told",
            why=f"its defaults are nested more than {_DEEPEST} deep",
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
    """A word that YAML takes for a plain one anywhere, and that the text does not have."""
    return next(mark for n in count() if (mark := f"CIVAR{n}v") not in text)
