"""Reads whole files, and lists, choices and numbers in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from core_infra._wording import similar
from core_infra._yaml.document import SIZE_MAX, Document, TooManyError
from core_infra._yaml.field import Field, Wrong
from core_infra.errors import InvalidFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    T = TypeVar("T")

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")


def read_yaml(
    data: bytes,
    file: str,
    read: Callable[[Field], T],
    *,
    error: type[InvalidFileError] = InvalidFileError,
    size_max: int = SIZE_MAX,
    null_is_missing: bool = False,
) -> T:
    """Read a file.

    Args:
        data: its content.
        file: its path, for errors.
        read: makes the result of the document's root.
        error: what is raised.
        size_max: bytes that it may have.
        null_is_missing: whether a field that is null counts as missing.

    Raises:
        InvalidFileError: it has mistakes.
    """
    document = Document(data, file, size_max=size_max, null_is_missing=null_is_missing)
    result = read_document(document, read)
    document.check(error)
    return result  # type: ignore[return-value] # without a mistake there is a result


def read_document(document: Document, read: Callable[[Field], T]) -> T | None:
    """What *read* makes of the root; None if that has a mistake itself."""
    if document.root is None:
        return None
    try:
        return read(Field(document, document.root, ""))
    except Wrong:
        return None
    except TooManyError:
        document.note(1, 1, "", "its aliases stand for too many values")
        return None


def whole(least: int, most: int | None = None) -> Callable[[Field], int]:
    """Reads a whole number in decimal digits."""
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"

    def read(field: Field) -> int:
        digits = field.scalar.replace("_", "") if field.kind == "int" else ""
        number = int(digits) if _WHOLE.fullmatch(digits) else None
        if number is None or number < least or (most is not None and number > most):
            field.reject(f"a whole number {limits}")
        return number

    return read


def one_of(names: Collection[str]) -> Callable[[Field], str]:
    """Reads one of some strings."""
    known = [str(name) for name in names]

    def read(field: Field) -> str:
        expected = f"one of {', '.join(known)}"
        value = field.string(expected)
        if value not in known:
            field.reject(expected, similar(value, known))
        return value

    return read


def each(read: Callable[[Field], T]) -> Callable[[Field], tuple[T, ...]]:
    """Reads a list, each value by *read*; leaves out those that have a mistake."""

    def read_all(field: Field) -> tuple[T, ...]:
        found: list[T] = []
        for item in field.items():
            try:
                found.append(read(item))
            except Wrong:
                continue
        return tuple(found)

    return read_all


def each_value(read: Callable[[Field], T]) -> Callable[[Field], dict[str, T]]:
    """Reads a mapping with any keys, each value by *read*; leaves out those with a mistake."""

    def read_all(field: Field) -> dict[str, T]:
        found: dict[str, T] = {}
        for name, entry in field.entries().items():
            try:
                found[name] = read(entry)
            except Wrong:
                continue
        return found

    return read_all
