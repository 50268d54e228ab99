"""Names that a package exports without importing their modules (PEP 562).

A package lists each name three times: for readers and ``import *`` in ``__all__``, for type
checkers in an import that never runs, and here, for Python::

    if TYPE_CHECKING:
        from core_infra.jobrunner._clock import Clock, SystemClock
    else:
        __getattr__ = _lazy.exports(__name__, {"._clock": ("Clock", "SystemClock")})

    __all__ = ["Clock", "SystemClock"]

There is no ``__dir__``: ``dir()`` lists only the names that are loaded. Some programs read every
attribute that ``dir()`` lists. freezegun does so when it stops the clock, and pytest when it looks
for fixtures; they would import the whole package, at the worst moment.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def exports(package: str, names: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package.

    A name is imported when it is first used, and is an ordinary attribute of the package from then
    on.

    Args:
        package: the package's ``__name__``.
        names: the exported names by the module that defines them; ``._clock`` is relative to the
            package.
    """
    modules = {name: module for module, members in names.items() for name in members}

    def __getattr__(name: str) -> Any:  # noqa: N807 - the name that PEP 562 prescribes
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name], package), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
