"""What packages export can be imported, is documented and typed, and shows no machinery."""

from __future__ import annotations

import enum
import importlib
import inspect
from types import ModuleType
from typing import Any

import pytest

from core_infra.process import Process
from core_infra.vm import GuestProcess, Machine

PACKAGES = (
    "core_infra.build",
    "core_infra.errors",
    "core_infra.framework",
    "core_infra.jobrunner",
    "core_infra.medium",
    "core_infra.process",
    "core_infra.sessions",
    "core_infra.testing",
    "core_infra.vm",
    "pytest_core_infra.plugin",
)
NAMES = [
    (package, name)
    for package in PACKAGES
    for name in getattr(importlib.import_module(package), "__all__", ())
]


def own_methods(cls: type) -> list[tuple[str, Any]]:
    """The public functions that a class defines, without published tests: their names say it."""
    return [
        (name, getattr(member, "fget", None) or getattr(member, "__func__", member))
        for name, member in vars(cls).items()
        if not name.startswith(("_", "test_"))
        and (inspect.isroutine(member) or isinstance(member, property | classmethod | staticmethod))
        and cls.__module__.startswith(("core_infra", "pytest_core_infra"))
    ]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_an_exported_name_is_documented_and_typed(package: str, name: str) -> None:
    found = getattr(importlib.import_module(package), name)
    assert not name.startswith("_")
    assert not isinstance(found, ModuleType), "modules are private: export their names"
    if not inspect.isclass(found) and not inspect.isroutine(found):
        return  # a constant or an alias
    assert inspect.getdoc(found), f"{name} has no docstring"
    routines = own_methods(found) if inspect.isclass(found) else [(name, found)]
    if inspect.isclass(found) and issubclass(found, enum.Enum):
        routines = []
    for method, function in routines:
        inherited = inspect.getdoc(getattr(found, method, function))
        assert inherited, f"{name}.{method} has no docstring"
        if inspect.isfunction(function):
            parameters = [*inspect.signature(function).parameters.values()]
            bound = {"self", "cls", "mcs"}
            untyped = [
                one.name
                for one in parameters
                if one.annotation is one.empty and one.name not in bound
            ]
            assert not untyped, f"{name}.{method} has parameters without types: {untyped}"


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
        *("aio", "exec", "stream", "ssh", "testinfra"),
        *("push", "pull", "read_bytes", "read_text", "write_bytes", "write_text"),
        *("wait_for_file", "wait_for_port", "wait_until_succeeds"),
        *("console", "console_tail", "logs", "panic", "port"),
        *("boot_seconds", "directory", "guest_info", "name", "pause", "pid", "spec", "status"),
        *("poweroff", "revert", "snapshot", "stop"),
    }
    assert {name for name in dir(GuestProcess) if not name.startswith("_")} == {
        *("chunks", "close_stdin", "collect", "duration", "exit_code", "is_running", "kill"),
        *("send_input", "signal", "wait"),
    }
