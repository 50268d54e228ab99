"""Reads the values of a configuration file; what cannot be meant is a mistake with its place."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, TypeVar

from core_infra._yaml.reading import each
from core_infra.errors import InvalidError
from core_infra.jobrunner._forges.endpoint import checked_address
from core_infra.jobrunner._logging import describe_error
from core_infra.jobrunner._signal import why_impossible
from core_infra.jobrunner._validation import usable_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._yaml.field import Field
    from core_infra.jobrunner._config.settings import Wanted

T = TypeVar("T")

REPO = re.compile(r"[^/\s]+/[^/\s]+")
_FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}


def integer(field: Field) -> int:
    value = field.value() if field.kind == "int" else None
    if not isinstance(value, int):
        field.reject("a whole number")
    return value


def number(field: Field) -> int:
    value = field.value() if field.kind == "int" else None
    if not isinstance(value, int) or value < 0:
        field.reject("a whole number")
    return value


def name(what: str) -> Callable[[Field], str]:
    def read(field: Field) -> str:
        try:
            return usable_name(field.string(), what)
        except InvalidError as error:
            field.fail(describe_error(error))

    return read


def wanted(field: Field) -> Wanted:
    """A value that a field of a signal can have, or a list of some."""

    def read(one: Field) -> bool | int | str:
        value = one.value()
        if value is None or isinstance(value, float):
            one.reject("a string, a whole number, true or false")
        problem = why_impossible(field.key, value)
        if problem:
            one.reject(problem.removeprefix("Input should be "))
        return value

    if field.kind != "seq":
        return read(field)
    if not field.items():
        field.fail("the list is empty; expected at least one value", "at least one value")
    return [*each(read)(field)]


def some(read: Callable[[Field], T]) -> Callable[[Field], tuple[T, ...]]:
    """Reads a list that has at least one value. Errors do not show a value that is not a list."""

    def read_all(field: Field) -> tuple[T, ...]:
        private = field.private()
        if private.kind == "seq" and not private.items():
            field.fail("the list is empty; expected at least one value", "at least one value")
        return each(read)(private)

    return read_all


def private_string(field: Field) -> str:
    return field.private().string()


def repo(field: Field) -> str:
    name = field.string("OWNER/NAME")
    if not REPO.fullmatch(name):
        field.reject("OWNER/NAME")
    return name


def url(field: Field) -> str:
    url = field.private().string("an address such as https://git.example.org")
    try:
        return checked_address(url)
    except InvalidError as error:
        field.fail(describe_error(error))


def flag(field: Field) -> bool:
    found = _FLAGS.get(field.scalar.lower()) if field.kind in {"bool", "int", "str"} else None
    if found is None:
        field.reject("true or false")
    return found


def count(field: Field) -> int:
    value = field.value() if field.kind == "int" else None
    if not isinstance(value, int) or value < 1:
        field.reject("a whole number of at least 1")
    return value


def seconds(field: Field) -> float:
    value = field.value() if field.kind in {"int", "float"} else None
    if not isinstance(value, int | float) or not 0 < value <= threading.TIMEOUT_MAX:
        field.reject(f"a number of seconds above 0 and at most {threading.TIMEOUT_MAX:.0f}")
    return float(value)


def timeout(field: Field) -> float | None:
    return None if field.kind == "null" else seconds(field)
