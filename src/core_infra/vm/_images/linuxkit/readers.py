"""Reads values of LinuxKit files as ``linuxkit`` does: its YAML is not that of PyYAML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core_infra._yaml.field import Field

    Read = Callable[[Field], Any]

_OCTAL = re.compile(r"[-+]?0o[0-7_]+")
_POWER = re.compile(r"[-+]?[0-9]+[eE][+]?[0-9]{1,2}")


class Values(dict[str, Any]):
    """The fields of a mapping that are given.

    Attributes:
        owner: the mapping in its document.
        fields: the fields in it, for mistakes that only another part of the file shows.
    """

    def __init__(self, owner: Field, fields: Mapping[str, Field]) -> None:
        super().__init__()
        self.owner = owner
        self.fields = fields


def mapping(known: Mapping[str, Read], *required: str) -> Read:
    """Reads a mapping with these fields."""

    def read(field: Field) -> Values:
        fields = field.fields(known)
        found = Values(field, fields)
        for name, read_one in known.items():
            if name in fields:
                found[name] = fields.optional(name, read_one, None)
            elif name in required:
                fields.required(name, read_one, None)
        return found

    return read


def string(field: Field) -> str:
    """Reads a string; without quotes, what YAML 1.2 takes for one."""
    kind, text = field.kind, field.scalar
    is_time = kind in {"int", "float"} and ":" in text  # 1:30 is 90 in YAML 1.1 alone
    is_word = kind == "bool" and text.lower() not in {"true", "false"}
    return text if kind == "timestamp" or is_time or is_word else field.string()


def text(parse: Callable[[str], object]) -> Read:
    """Reads a string that *parse* takes; the message of its ValueError is the mistake."""

    def read(field: Field) -> str:
        found = string(field)
        try:
            parse(found)
        except ValueError as error:
            field.fail(str(error))
        return found

    return read


def or_empty(read: Read) -> Read:
    """Reads a string that counts as not given if it is empty."""

    def read_any(field: Field) -> Any:
        return "" if field.kind == "str" and not field.scalar else read(field)

    return read_any


def whole(least: int, most: int) -> Read:
    """Reads a whole number."""

    def read(field: Field) -> int:
        found = _number(field)
        if found is None:
            field.reject("a whole number")
        if not least <= found <= most:
            field.reject(f"a number from {least} to {most}")
        return found

    return read


def identifier(field: Field) -> int | str:
    """Reads a user or group: a number, or a name."""
    found: int | str = string(field) if _number(field) is None else _UINT32(field)
    return found


def _number(field: Field) -> int | None:
    """Return a whole number as YAML 1.2 writes it; None if it is something else."""
    is_plain = field.node is not None and not getattr(field.node, "style", "")
    written = field.scalar
    if field.kind == "int" and ":" not in written:
        value = field.value()
        return value if isinstance(value, int) else None
    if field.kind == "str" and is_plain and _OCTAL.fullmatch(written):
        return int(written.replace("_", ""), 8)
    if field.kind == "str" and is_plain and _POWER.fullmatch(written):
        return int(float(written))
    return None


_UINT32 = whole(0, (1 << 32) - 1)
