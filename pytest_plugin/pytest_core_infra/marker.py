"""The marker ``core_vm`` and the parameters of fixtures: what one test's machines are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

NAME = "core_vm"

DESCRIPTION = (
    f"{NAME}(memory=MIB, cpus=N, disks=[SIZE], image=PATH, template=NAME, variables=DICT, "
    "timeout=SECONDS, cold=BOOL): what this test's machines are made of, how long one may take to "
    "boot, and whether it boots though it could be cloned. Each argument is optional."
)

FACTORY = "core_vm_factory"
"""The fixture whose parameters count for all machines of a test."""

PARAMETRIZED = (NAME, FACTORY)
"""The fixtures that can be parametrized, by a dict of the marker's arguments."""

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
_OURS = "pytest_core_infra."


def mistakes(item: pytest.Item) -> list[str]:
    """What is wrong with the markers and the parameters of a test, in one sentence each."""
    found = [text for mark in item.iter_markers(NAME) for text in _mistakes_of(mark)]
    for fixture, value in _parameters(item).items():
        found += _parameter_mistakes(fixture, value)
    return found


def _parameter_mistakes(fixture: str, value: object) -> list[str]:
    if fixture not in PARAMETRIZED:
        return [f"the fixture {fixture} has no parameters, but was given {value!r}"]
    title = f"the parameter of {fixture}"
    if not isinstance(value, Mapping):
        return [f"{title} must be a dict of the marker's arguments, such as memory: {value!r}"]
    return [f"{title} {text}" for text in _argument_mistakes(value)]


def _mistakes_of(mark: pytest.Mark) -> Iterator[str]:
    if mark.args:
        yield f"the marker {NAME} takes no positional arguments, but was given {mark.args!r}"
    for text in _argument_mistakes(mark.kwargs):
        yield f"the marker {NAME} {text}"


def _argument_mistakes(arguments: Mapping[Any, object]) -> Iterator[str]:
    for name, value in arguments.items():
        if name not in _ARGUMENTS:
            yield f"has no argument {name!r}; it has {', '.join(_ARGUMENTS)}"
            continue
        types, meaning = _ARGUMENTS[name]
        misfit = isinstance(value, bool) and types != (bool,)
        if misfit or not isinstance(value, types):
            yield f"needs {meaning} as {name}, but was given {value!r}"


def asked_for(item: pytest.Item, *fixtures: str) -> dict[str, Any]:
    """What the markers of a test ask for, and the parameters of fixtures.

    A marker closer to the test overrides those around it, and a parameter overrides markers.

    Args:
        item: the test.
        fixtures: whose parameters count besides those of the factory.
    """
    marks = reversed(list(item.iter_markers(NAME)))
    asked = {name: value for mark in marks for name, value in mark.kwargs.items()}
    parameters = _parameters(item)
    for fixture in (FACTORY, *fixtures):
        asked.update(parameters.get(fixture, {}))
    return asked


def parameter(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The parameter of one of our fixtures, as it asks for it; checked when it was collected."""
    name = str(request.fixturename)
    found: dict[str, Any] = _parameters(request.node).get(name, {})
    return found


def uses(item: pytest.Item, fixture: str) -> bool:
    """Whether a test uses this fixture of ours, and not only one that has its name."""
    for definition in reversed(_definitions(item, fixture)):
        if _is_ours(definition):
            return True
        if fixture not in definition.argnames:  # else it builds on the one that it overrides
            return False
    return False


def _parameters(item: pytest.Item) -> dict[str, Any]:
    """The parameters of our own fixtures."""
    callspec = getattr(item, "callspec", None)
    parameters = {} if callspec is None else callspec.params
    return {
        name: value
        for name, value in parameters.items()
        if (definitions := _definitions(item, name)) and _is_ours(definitions[-1])
    }


def _definitions(item: pytest.Item, fixture: str) -> Sequence[pytest.FixtureDef[Any]]:
    """What defines a fixture for a test; the last one counts."""
    found = getattr(item, "_fixtureinfo", None)
    return found.name2fixturedefs.get(fixture, ()) if found else ()


def _is_ours(definition: pytest.FixtureDef[Any]) -> bool:
    return str(getattr(definition.func, "__module__", "")).startswith(_OURS)
