"""Specs: what is wrong with one is reported at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.process import (
    RunSpec,
)


async def nobody_awaits() -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"name": "", "command": "true"}, "name"),
        ({"name": "a\nb", "command": "true"}, "name"),
        ({}, "neither a command nor a call"),
        ({"command": "true", "args": "arg"}, "args is one string"),
        ({"command": "true", "after": "build"}, "after is one string"),
        ({"command": "true", "retries": -1}, "retries"),
        ({"command": "true", "timeout": 0}, "timeout"),
        ({"command": "tr\0ue"}, "NUL"),
        ({"command": "true", "call": int}, "a call takes no command"),
        ({"call": int, "timeout": 3}, "a call takes no timeout"),
        ({"call": int, "stop_signal": 2}, "a call takes no stop_signal"),
        ({"call": nobody_awaits}, "call is async"),
        ({"call": partial(nobody_awaits)}, "call is async"),
        ({"command": "true", "stop_signal": 99}, "stop_signal is 99"),
        ({"command": "true", "grace": -1}, "grace is -1"),
        ({"command": "true", "description": "a\nb"}, "description"),
    ],
)
def test_a_spec_that_cannot_be(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidError, match=what):
        RunSpec(**{"name": "a"} | fields)


def test_all_that_is_wrong_with_a_spec_is_said_at_once() -> None:
    with pytest.raises(CoreInfraError, match=r"retries.*timeout"):
        RunSpec("a", "true", retries=-1, timeout=-1)


def test_a_spec_keeps_what_was_checked() -> None:
    args, env = ["x"], {"A": "1"}
    spec = RunSpec("a", "true", args, env=env)
    args.append("y")
    env["B"] = "2"
    assert (spec.args, spec.env) == (("x",), {"A": "1"})
