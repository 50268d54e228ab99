"""The marker ``core_vm`` and the parameters of fixtures: which machines tests request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.skipping import evaluate_skip_marks, evaluate_xfail_marks

from pytest_core_infra._markers import Argument, argument_mistakes, mark_mistakes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _pytest.nodes import Node

NAME = "core_vm"

DESCRIPTION = (
    f"{NAME}(memory=MIB, cpus=N, disks=[SIZE], image=PATH, template=NAME, variables=DICT, "
    "cpu=MODEL, arch=NAME, kernel=PATH, initrd=PATH, cmdline=TEXT, entrypoint=BOOL, init=PROGRAM, "
    "packages=[NAME], suite=NAME, network=NAME, time=NAME, "
    "timeout=SECONDS, cold=BOOL, revert=BOOL): the hardware and image of this test's machines, "
    "how long one may take to boot, and whether to boot it instead of cloning it. On a class or a "
    "module (pytestmark) it also "
    "applies to core_vm_class or core_vm_module; revert reverts those after each test. Each "
    "argument is optional."
)

MACHINES = {
    "function": "core_vm",
    "class": "core_vm_class",
    "module": "core_vm_module",
    "session": "core_vm_session",
}
"""The fixtures that are a machine, by scope."""

FACTORIES = {
    "function": "core_vm_factory",
    "class": "core_vm_factory_class",
    "module": "core_vm_factory_module",
    "session": "core_vm_factory_session",
}
"""The fixtures whose parameters apply to all machines that they start."""

NETWORKS = (
    "core_network",
    "core_network_class",
    "core_network_module",
    "core_network_session",
    "core_vm_cluster",
)
"""The fixtures that make networks."""

PARAMETRIZED = (*MACHINES.values(), *FACTORIES.values())
"""The fixtures that can be parametrized with a dict of the marker's arguments."""

_ARGUMENTS = {
    "memory": Argument((int,), "a number of MiB"),
    "cpus": Argument((int,), "a number"),
    "disks": Argument((list, tuple), "a list of sizes or paths"),
    "image": Argument(
        (str, os.PathLike), "a path, an address, or an image", "core_infra.vm._images.image"
    ),
    "template": Argument((str,), "a name"),
    "variables": Argument((dict,), "a dict of texts"),
    "cpu": Argument((str,), "a model and its features, such as max,cx16=off,"),
    "arch": Argument((str,), "x86_64 or aarch64"),
    "kernel": Argument((str, os.PathLike), "a path"),
    "initrd": Argument((str, os.PathLike), "a path"),
    "cmdline": Argument((str,), "a text"),
    "entrypoint": Argument((bool,), "True or False"),
    "init": Argument((str,), "systemd or the path of a program"),
    "packages": Argument((list, tuple), "a list of names"),
    "suite": Argument((str,), "the name of a release"),
    "network": Argument((str,), "hermetic or nat"),
    "time": Argument((str,), "real or virtual"),
    "timeout": Argument((int, float), "a number of seconds"),
    "cold": Argument((bool,), "True or False"),
    "revert": Argument((bool,), "True or False"),
}
_OURS = "pytest_core_infra."
_NAT = "nat"  # what defines it is slow to import


def mistakes(item: pytest.Item) -> list[str]:
    """The mistakes in the markers and parameters of a test, one sentence each."""
    found = [text for mark in item.iter_markers(NAME) for text in mark_mistakes(mark, _ARGUMENTS)]
    found += [text for mark in item.own_markers for text in _without_effect(item, mark)]
    for fixture, value in _parameters(item).items():
        found += _parameter_mistakes(fixture, value)
    return found


def _without_effect(item: pytest.Item, mark: pytest.Mark) -> list[str]:
    """The arguments of a test's own marker that apply to none of its machines.

    A marker of a class or a module applies only to the tests for which it has an effect.
    """
    if mark.name != NAME or not mark.kwargs:
        return []
    if "revert" in mark.kwargs:
        return [f"revert in the marker {NAME} has no effect on a test: core_vm is not shared"]
    names = getattr(item, "fixturenames", ())
    used = [scope for scope, name in FACTORIES.items() if name in names]
    if not used or "function" in used:
        return []
    arguments = ", ".join(f"{name}={value!r}" for name, value in mark.kwargs.items())
    what = f"the marker {NAME}({arguments}) cannot change {MACHINES[used[0]]}"
    return [f"{what}, which other tests also use. {_TODO[used[0]]}"]


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
    return [f"{title} {text}" for text in argument_mistakes(value, _ARGUMENTS)]


def requested(item: pytest.Item, *fixtures: str, scope: str = "function") -> dict[str, Any]:
    """The arguments of markers, and of the parameters of fixtures.

    A marker overrides those on outer nodes, and a parameter overrides markers.

    Args:
        item: the test.
        fixtures: fixtures whose parameters apply, besides those of the factory.
        scope: the scope of the machine; markers on this node and outer ones apply.
    """
    marks = reversed(list(_scope_node(item, scope).iter_markers(NAME)))
    found = {name: value for mark in marks for name, value in mark.kwargs.items()}
    parameters = _parameters(item)
    for fixture in (FACTORIES.get(scope, ""), *fixtures):
        # Other values are reported as mistakes when the tests are collected.
        if isinstance(chosen := parameters.get(fixture), Mapping):
            found.update(chosen)
    return found


def requested_by_all(items: Iterable[pytest.Item]) -> list[dict[str, Any]]:
    """The arguments of the machines that tests will use, each combination once.

    Machines that a test starts by a factory are unknown before it runs.
    """
    kinds: list[dict[str, Any]] = []
    for item in items:
        for scope, fixture in MACHINES.items():
            if uses(item, fixture) and not _is_skipped(item):
                kind = requested(item, fixture, scope=scope)
                kind.pop("revert", None)
                if kind not in kinds:
                    kinds.append(kind)
    return kinds


def is_open(item: pytest.Item) -> bool:
    """Whether the arguments of a test's machines open them to the outside."""
    return any(
        requested(item, MACHINES[scope], scope=scope).get("network") == _NAT
        for scope, factory in FACTORIES.items()
        if uses(item, factory)
    )


def parameter(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The parameter of one of our fixtures; it was checked when it was collected."""
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
    # Like pytest, the test itself if there is no class.
    return (item.getparent(kinds[scope]) if scope in kinds else None) or item


def uses(item: pytest.Item, fixture: str) -> bool:
    """Whether a test uses our fixture of a name, and not only another of this name."""
    for definition in reversed(_definitions(item, fixture)):
        if _is_ours(definition):
            return True
        if fixture not in definition.argnames:  # else it uses the one that it overrides
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
    """The definitions of a fixture for a test; the last one applies."""
    found = getattr(item, "_fixtureinfo", None)
    return found.name2fixturedefs.get(fixture, ()) if found else ()


def _is_ours(definition: pytest.FixtureDef[Any]) -> bool:
    return str(getattr(definition.func, "__module__", "")).startswith(_OURS)


def _is_skipped(item: pytest.Item) -> bool:
    try:
        if evaluate_skip_marks(item) is not None:
            return True
        expected = evaluate_xfail_marks(item)
    except BaseException:  # noqa: BLE001 - an error of the user's condition; pytest reports it later
        return True
    return expected is not None and not expected.run
