"""JSON as journals and ids have it: the same text for the same value, and cheap."""

from __future__ import annotations

import json

from pydantic_core import PydanticSerializationError, to_json


def canonical(value: object) -> bytes:
    """A value as JSON on one line, in UTF-8; the order is the value's own.

    What JSON has no word for is written as its text.
    """
    try:
        return to_json(value)
    except PydanticSerializationError:  # half of a surrogate pair, or a type that it does not know
        return _ENCODER.encode(value).encode("ascii")


_ENCODER = json.JSONEncoder(default=str, separators=(",", ":"))
