"""Packages whose names are imported when they are used."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INIT = """
from core_infra import _lazy

__getattr__ = _lazy.exports(__name__, {"._tools": ("Hammer", "SAW"), "._absent": ("Drill",)})
__all__ = ["SAW", "Drill", "Hammer"]
"""
TOOLS = """
class Hammer:
    pass

SAW = "saw"
SECRET = 1
"""
PACKAGES = ("build", "framework", "jobrunner", "medium", "process", "testing", "vm")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    folder = tmp_path / "lazy_toolbox"
    folder.mkdir()
    (folder / "__init__.py").write_text(INIT)
    (folder / "_tools.py").write_text(TOOLS)
    (folder / "_absent.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("lazy_toolbox")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lazy_toolbox"]:
        del sys.modules[name]


def test_a_name_is_imported_when_it_is_used(package: Any) -> None:
    assert "lazy_toolbox._tools" not in sys.modules
    hammer = package.Hammer
    assert hammer is sys.modules["lazy_toolbox._tools"].Hammer
    assert vars(package)["Hammer"] is hammer
    assert package.SAW == "saw"


def test_dir_imports_nothing(package: Any) -> None:
    for name in dir(package):
        getattr(package, name)
    assert not {"lazy_toolbox._tools", "lazy_toolbox._absent"} & sys.modules.keys()


def test_other_names_do_not_exist(package: Any) -> None:
    with pytest.raises(AttributeError, match="'lazy_toolbox' has no attribute 'SECRET'"):
        _ = package.SECRET


def test_what_cannot_be_imported_says_why(package: Any) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        _ = package.Drill


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_and_python_find_the_same_names(package: str) -> None:
    module = importlib.import_module(f"core_infra.{package}")
    tree = ast.parse(inspect.getsource(module))
    static = {
        (alias.name, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and "._" in str(node.module)
        for alias in node.names
    }
    lazy = set()
    if hasattr(module, "__getattr__"):
        modules = inspect.getclosurevars(module.__getattr__).nonlocals["modules"]
        found = {
            name: importlib.util.resolve_name(modules[name], module.__name__) for name in modules
        }
        lazy = set(found.items())
    assert {name for name, _ in static} == set(module.__all__)
    assert lazy <= static
