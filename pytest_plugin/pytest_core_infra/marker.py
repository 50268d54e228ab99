"""The marker ``core_vm``: what one test's machines are made of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

NAME = "core_vm"

DESCRIPTION = (
    f"{NAME}(memory=MIB, cpus=N, disks=[SIZE], image=PATH, template=NAME, variables=DICT, "
    "timeout=SECONDS, cold=BOOL): what this test's machines are made of, how long one may take to "
    "boot, and whether it boots though it could be cloned. Each argument is optional."
)

_ARGUMENTS: dict[str, tuple[tuple[type, ...], str]] = {
    "memory": ((int,), "a number of MiB"),
    "cpus": ((int,), "a number"),
    "disks": ((list, tuple), "a list of sizes or paths"),
    "image": ((str, os.PathLike), "a path"),
    "template": ((str,), "a name"),
    "variables": ((dict,), "a dict of texts"),
    "timeout": ((int, float), "a number of seconds"),
    "cold": ((bool,), "True or False"),
}


def mistakes(item: pytest.Item) -> list[str]:
    """What is wrong with the markers of a test, in one sentence each."""
    return [text for mark in item.iter_markers(NAME) for text in _mistakes_of(mark)]


def _mistakes_of(mark: pytest.Mark) -> list[str]:
    found = []
    if mark.args:
        found.append(f"takes no positional arguments, but was given {mark.args!r}")
    for name, value in mark.kwargs.items():
        if name not in _ARGUMENTS:
            found.append(f"has no argument {name!r}; it has {', '.join(_ARGUMENTS)}")
            continue
        types, meaning = _ARGUMENTS[name]
        misfit = isinstance(value, bool) and types != (bool,)
        if misfit or not isinstance(value, types):
            found.append(f"needs {meaning} as {name}, but was given {value!r}")
    return [f"the marker {NAME} {text}" for text in found]


def asked_for(item: pytest.Item) -> dict[str, Any]:
    """What the markers of a test ask for; one closer to the test outdoes those around it."""
    marks = reversed(list(item.iter_markers(NAME)))
    return {name: value for mark in marks for name, value in mark.kwargs.items()}
