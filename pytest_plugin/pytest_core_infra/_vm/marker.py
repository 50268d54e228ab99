"""The marker ``core_vm`` and the parameters of fixtures: what one test's machines are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _pytest.nodes import Node

NAME = "core_vm"

DESCRIPTION = (
    f"{NAME}(memory=MIB, cpus=N, disks=[SIZE], image=PATH, template=NAME, variables=DICT, "
    "cpu=MODEL, arch=NAME, kernel=PATH, initrd=PATH, cmdline=TEXT, timeout=SECONDS, cold=BOOL, "
    "revert=BOOL): what this test's machines are made of, how long one may take to boot, and "
    "whether it boots though it could be cloned. On a class or a module (pytestmark) it is for "
    "core_vm_class or core_vm_module, too; revert takes those back after each test. Each argument "
    "is optional."
)

MACHINES = {
    "function": "core_vm",
    "class": "core_vm_class",
    "module": "core_vm_module",
    "session": "core_vm_session",
}
"""The fixtures that are a machine, by how far it is shared."""

FACTORIES = {
    "function": "core_vm_factory",
    "class": "core_vm_factory_class",
    "module": "core_vm_factory_module",
    "session": "core_vm_factory_session",
}
"""The fixtures whose parameters count for all machines that they start."""

PARAMETRIZED = (*MACHINES.values(), *FACTORIES.values())
"""The fixtures that can be parametrized, by a dict of the marker's arguments."""

_ARGUMENTS: dict[str, tuple[tuple[type, ...], str]] = {
    "memory": ((int,), "a number of MiB"),
    "cpus": ((int,), "a number"),
    "disks": ((list, tuple), "a list of sizes or paths"),
    "image": ((str, os.PathLike), "a path"),
    "template": ((str,), "a name"),
    "variables": ((dict,), "a dict of texts"),
    "cpu": ((str,), "a model and its features, such as max,cx16=off,"),
    "arch": ((str,), "x86_64 or aarch64"),
    "kernel": ((str, os.PathLike), "a path"),
    "initrd": ((str, os.PathLike), "a path"),
    "cmdline": ((str,), "a text"),
    "timeout": ((int, float), "a number of seconds"),
    "cold": ((bool,), "True or False"),
    "revert": ((bool,), "True or False"),
}
_OURS = "pytest_core_infra."


def mistakes(item: pytest.Item) -> list[str]:
    """What is wrong with the markers and the parameters of a test, in one sentence each."""
    found = [text for mark in item.iter_markers(NAME) for text in _mistakes_of(mark)]
    found += [text for mark in item.own_markers for text in _in_vain(item, mark)]
    for fixture, value in _parameters(item).items():
        found += _parameter_mistakes(fixture, value)
    return found


def _in_vain(item: pytest.Item, mark: pytest.Mark) -> list[str]:
    """What a test's own marker asks for that no machine of the test can heed.

    A marker of a class or a module is for those of its tests that can heed it.
    """
    if mark.name != NAME or not mark.kwargs:
        return []
    if "revert" in mark.kwargs:
        return [f"the marker {NAME} has no use for revert on a test, whose core_vm is its own"]
    names = getattr(item, "fixturenames", ())
    used = [scope for scope, name in FACTORIES.items() if name in names]
    if not used or "function" in used:
        return []
    asked = ", ".join(f"{name}={value!r}" for name, value in mark.kwargs.items())
    what = f"the marker {NAME}({asked}) cannot change {MACHINES[used[0]]}"
    return [f"{what}, which other tests use, too. {_TODO[used[0]]}"]


_TODO = {
    "class": "Put the marker on the class, or use core_vm.",
    "module": "Put it into the module's pytestmark, or use core_vm.",
    "session": "Give the arguments to core_vm_factory_session, or as options, or use core_vm.",
}


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


def asked_for(item: pytest.Item, *fixtures: str, scope: str = "function") -> dict[str, Any]:
    """What markers ask for, and the parameters of fixtures.

    A marker closer to the test, the class or the module overrides those around it, and a parameter
    overrides markers.

    Args:
        item: the test.
        fixtures: whose parameters count besides those of the factory.
        scope: how far the machine is shared; markers count from there on outwards.
    """
    marks = reversed(list(_scope_node(item, scope).iter_markers(NAME)))
    asked = {name: value for mark in marks for name, value in mark.kwargs.items()}
    parameters = _parameters(item)
    for fixture in (FACTORIES.get(scope, ""), *fixtures):
        asked.update(parameters.get(fixture, {}))
    return asked


def parameter(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The parameter of one of our fixtures, as it asks for it; checked when it was collected."""
    name = str(request.fixturename)
    found: dict[str, Any] = _parameters(request._pyfuncitem).get(name, {})  # noqa: SLF001 - node is wider
    return found


def _scope_node(item: pytest.Item, scope: str) -> Node:
    if scope == "session":
        return item.session
    kinds: dict[str, type[Node]] = {
        "class": pytest.Class,
        "module": pytest.Module,
        "package": pytest.Package,
    }
    # As pytest does where there is no class.
    return (item.getparent(kinds[scope]) if scope in kinds else None) or item


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
