"""The public names: importable, documented, typed, in the reference, and without machinery."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from reference import (
    PACKAGES,
    PAGE,
    attributes,
    constants,
    documented_attributes,
    exports,
    methods,
    render,
)

from core_infra.process import Process
from core_infra.vm import GuestProcess, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reference import Export

ROOT = Path(__file__).parents[1]
OURS = ("core_infra", "pytest_core_infra")
DEEP_IMPORT = re.compile(
    r"^\s*(?:from|import) +((?:pytest_)?core_infra(?:\.\w+)*\._\w+|core_infra(?:\.\w+){2,})",
    re.MULTILINE,
)

OPAQUE = {
    "Ending",  # of a machine: the plugin passes it to Launcher.discard
    "Environment",  # of a program: what RunOptions.environment returns is a mapping
    "Fingerprint",  # of a task: Freshness.begin returns it for Freshness.passed
    "Latch",  # of a process: Process.over has wait and is_set, like threading.Event
    "MemoryFile",  # of a machine to fork: only a hypervisor that can fork gets one
    "PauseWatch",  # what LinuxKitManager.watch returns is a context manager
    "RunDirectory",  # the plugin reports what Launcher.run has swept
}
"""Private types that users get from one call, and pass to another or use by a known protocol."""

surface = pytest.mark.parametrize("package", PACKAGES)


@surface
def test_each_name_can_be_imported_and_is_listed_once(package: str) -> None:
    module = importlib.import_module(package)
    names = list(getattr(module, "__all__", []))
    assert len(names) == len(set(names))
    assert exports(package)
    modules = [export.name for export in exports(package) if inspect.ismodule(export.value)]
    assert modules == [], "modules are private: export their names"


@surface
def test_each_name_is_documented(package: str) -> None:
    missing = [line for export in exports(package) for line in undocumented(export)]
    assert missing == []


@surface
def test_each_call_is_typed(package: str) -> None:
    untyped = [
        f"{name}({parameter})"
        for export in exports(package)
        for name, function in calls(export)
        for parameter in untyped_parameters(function)
    ]
    assert untyped == []


@surface
def test_public_classes_and_functions_use_public_types_only(package: str) -> None:
    """What the machinery passes around in a public class shows as a private type there."""
    private = [
        f"{name}: {found.__module__}.{found.__qualname__}"
        for export in exports(package)
        for name, function in calls(export)
        for found in annotated_types(function)
        if id(found) not in public_values() and found.__qualname__ not in OPAQUE
    ]
    assert sorted(set(private)) == []


def test_the_reference_lists_what_is_exported() -> None:
    assert PAGE.read_text() == render(), "run: python .ci/reference.py"


def test_pages_examples_and_fixtures_import_from_public_packages() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    sources = [*(ROOT / "examples").rglob("*.py"), *(ROOT / "fixtures").rglob("*.py")]
    deep = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (*pages, *sources)
        for name in DEEP_IMPORT.findall(path.read_text())
    ]
    assert deep == []


def undocumented(export: Export) -> Iterator[str]:
    where, value = f"{export.package}.{export.name}", export.value
    if not inspect.isclass(value) and not inspect.isroutine(value):
        if export.name not in constants():
            yield where
        return
    if not (value.__doc__ or "").strip():
        yield where
    if not inspect.isclass(value):
        return
    for name, method in methods(value).items():
        text = getattr(method, "__doc__", "") or getattr(value, name).__doc__
        # The tests of a contract say in their names what they test.
        if not text and not name.startswith("test_"):
            yield f"{where}.{name}"
    fields = [*getattr(value, "_fields", ()), *getattr(value, "__dataclass_fields__", ())]
    documented = {name for base in value.__mro__ for name in documented_attributes(base)}
    for name in fields:
        if not name.startswith("_") and name in attributes(value) and name not in documented:
            yield f"{where}.{name}"


def calls(export: Export) -> Iterator[tuple[str, Any]]:
    """The functions behind a name: itself, or the methods of a class."""
    value = export.value
    if inspect.isfunction(value):
        yield f"{export.package}.{export.name}", value
    if inspect.isclass(value):
        found = methods(value)
        for name, method in found.items():
            function = getattr(method, "fget", None) or getattr(method, "__func__", method)
            yield f"{export.package}.{export.name}.{name}", inspect.unwrap(function)


def untyped_parameters(function: Any) -> list[str]:
    signature = inspect.signature(function)
    names = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is inspect.Parameter.empty and name not in {"self", "cls"}
    ]
    if signature.return_annotation is inspect.Signature.empty and function.__name__ != "__init__":
        names.append("return")
    return names if function.__name__ != "<lambda>" else []


def annotated_types(function: Any) -> Iterator[type]:
    """The classes of ours in the annotations of a function, also those imported for types only."""
    if not function.__module__.startswith(OURS):
        return
    names = {
        node.id
        for text in function.__annotations__.values()
        if isinstance(text, str)
        for node in ast.walk(ast.parse(text, mode="eval"))
        if isinstance(node, ast.Name)
    }
    for name in names & imported(function.__module__).keys():
        found = imported(function.__module__)[name]
        # _rebinding has stand-ins of the standard library's classes.
        if inspect.isclass(found) and found.__module__ != "core_infra._rebinding":
            yield found


@cache
def imported(module: str) -> dict[str, Any]:
    """What names of ours mean in a module: its own classes, and what it imports."""
    found: dict[str, Any] = {}
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OURS):
            origin = importlib.import_module(node.module or "")
            found |= {
                alias.asname or alias.name: getattr(origin, alias.name, None)
                for alias in node.names
            }
        elif isinstance(node, ast.ClassDef):
            found[node.name] = getattr(importlib.import_module(module), node.name, None)
    return found


@cache
def public_values() -> set[int]:
    return {id(export.value) for package in PACKAGES for export in exports(package)}


@cache
def parsed(module: str) -> ast.Module:
    path = importlib.import_module(module).__file__
    assert path is not None
    return ast.parse(Path(path).read_text())


def test_a_process_shows_only_what_its_users_call() -> None:
    shown = {name for name in dir(Process) if not name.startswith("_")}
    assert shown == {
        *("close_stdin", "error", "exit_code", "info", "is_running", "kill", "last_signal"),
        *("leftovers", "output", "output_bytes", "over", "pid", "read", "read_by_stream"),
        *("restarts", "run_beside", "run_start", "send_input", "signal", "status", "stop"),
        *("terminal", "timed_out", "usage", "wait", "wait_ready", "written"),
    }


def test_a_machine_shows_only_what_its_users_call() -> None:
    assert {name for name in dir(Machine) if not name.startswith("_")} == {
        *("aio", "exec", "shell", "stream", "ssh", "testinfra"),
        *("push", "pull", "read_bytes", "read_text", "write_bytes", "write_text"),
        *("wait_for_file", "wait_for_port", "wait_until_succeeds"),
        *("console", "console_tail", "logs", "panic", "port"),
        *("boot_seconds", "directory", "guest_info", "name", "pid", "spec", "status"),
        *("poweroff", "revert", "snapshot", "stop"),
        *("power_cut", "power_off", "power_on", "reboot", "reset"),
        *("active_faults", "clock", "cpu", "disk", "last_faults", "memory"),
        *("pause", "pause_reason", "resume"),
    }
    assert {name for name in dir(GuestProcess) if not name.startswith("_")} == {
        *("chunks", "close_stdin", "collect", "duration", "exit_code", "is_running", "kill"),
        *("send_input", "signal", "wait"),
    }
