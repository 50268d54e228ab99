"""Lists the public names of core_infra, and writes them to docs/reference.md.

Run: python .ci/reference.py

Public is what the packages export in ``__all__``; tests/test_public_surface.py compares the page
with it, so that adding or removing a public name is always visible in the page.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import importlib
import inspect
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]
_SOURCE = _ROOT / "src"
PAGE = _ROOT / "docs/reference.md"
PACKAGES = (
    "core_infra.vm",
    "core_infra.process",
    "core_infra.build",
    "core_infra.jobrunner",
    "core_infra.medium",
    "core_infra.framework",
    "core_infra.testing",
    "core_infra.errors",
    "core_infra.sessions",
    "pytest_core_infra.plugin",
)
_OURS = ("core_infra", "pytest_core_infra")
_HEAD = """\
# Reference

All public names, by the package to import them from; everything else is private and may change.
`help(name)` in Python shows the full documentation. `python .ci/reference.py` generates this page.
"""
_ATTRIBUTE = re.compile(r"^    (\w+): ", re.MULTILINE)


class Export(NamedTuple):
    """A public name.

    Attributes:
        package: where it is imported from.
        name: the name.
        value: what it names.
    """

    package: str
    name: str
    value: Any


def exports(package: str) -> list[Export]:
    """The public names of a package, sorted."""
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, tuple) or getattr(value, "__module__", "") == package)
    ]
    return [Export(package, name, getattr(module, name)) for name in sorted(names)]


def methods(kind: type) -> dict[str, Any]:
    """The public methods and properties of a class that are ours, inherited ones included."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith(_OURS):
            found |= {
                name: value
                for name, value in vars(base).items()
                if not name.startswith("_")
                and (
                    inspect.isfunction(value)
                    or isinstance(value, (property, classmethod, staticmethod))
                )
            }
    return found


def attributes(kind: type) -> list[str]:
    """The public attributes of a class: its fields, and those that its docstring documents."""
    if issubclass(kind, enum.Enum):
        return [member.name for member in kind]
    fields = list(getattr(kind, "_fields", ()))
    if dataclasses.is_dataclass(kind):
        fields += [field.name for field in dataclasses.fields(kind)]
    bases = [base for base in reversed(kind.__mro__) if base is not CoreInfraError or kind is base]
    documented = [name for base in bases for name in documented_attributes(base)]
    names = dict.fromkeys(name for name in [*fields, *documented] if not name.startswith("_"))
    return [name for name in names if name not in methods(kind)]


def documented_attributes(kind: type) -> list[str]:
    """The names in the section ``Attributes`` of a class's own docstring."""
    text = inspect.cleandoc(vars(kind).get("__doc__") or "")
    section = re.split(r"^Attributes:$", text, flags=re.MULTILINE)[1:]
    if not section or not kind.__module__.startswith(_OURS):
        return []
    return _ATTRIBUTE.findall(re.split(r"^\w+:$", section[0], flags=re.MULTILINE)[0])


def summary(export: Export) -> str:
    """The first line of a docstring, or of the string after a constant."""
    has_docstring = inspect.isclass(export.value) or inspect.isroutine(export.value)
    text = inspect.getdoc(export.value) if has_docstring else constants().get(export.name)
    return (text or "").partition("\n")[0]


@functools.cache
def constants() -> dict[str, str]:
    """The strings that describe constants: each follows an assignment at the top of a module."""
    found: dict[str, str] = {}
    for path in sorted(_SOURCE.rglob("*.py")):
        for node, after in itertools.pairwise(ast.parse(path.read_text()).body):
            if not isinstance(after, ast.Expr) or not isinstance(after.value, ast.Constant):
                continue
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                found |= dict.fromkeys(names, inspect.cleandoc(str(after.value.value)))
    return found


def render() -> str:
    """The text of the page."""
    parts = [_HEAD]
    for package in PACKAGES:
        text = (importlib.import_module(package).__doc__ or "").partition("\n")[0]
        lines = "\n".join(line for export in exports(package) for line in _lines(export))
        parts.append(f"## {package}\n\n{text}\n\n{lines}\n")
    return "\n".join(parts)


def _lines(export: Export) -> Iterator[str]:
    text = summary(export)
    yield f"- `{_call(export.name, export.value)}`{text and f': {text}'}"
    if inspect.isclass(export.value):
        names = [*attributes(export.value), *(f"{name}()" for name in _calls(export.value))]
        names += [name for name in methods(export.value) if f"{name}()" not in names]
        if names:
            yield f"  {', '.join(f'`{name}`' for name in names)}"


def _calls(kind: type) -> list[str]:
    return [name for name, value in methods(kind).items() if not isinstance(value, property)]


def _call(name: str, value: Any) -> str:
    """A function with its parameters."""
    if not inspect.isfunction(value):
        return name
    signature = inspect.signature(value)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty, default=_default(parameter.default))
        for parameter in signature.parameters.values()
    ]
    empty = inspect.Signature.empty
    return f"{name}{signature.replace(parameters=parameters, return_annotation=empty)}"


class _Shown:
    """A default as the page shows it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _default(value: Any) -> Any:
    if value is inspect.Parameter.empty:
        return value
    simple = value is None or type(value) in {bool, int, float, str} or value == ()
    return _Shown(repr(value) if simple else "…")


if __name__ == "__main__":
    PAGE.write_text(render())
