"""What would return something to be awaited, which nobody here does."""

from __future__ import annotations

import functools
import inspect


def is_async(function: object) -> bool:
    """Whether it is async: a function, a method, an object that can be called, a partial of one."""
    while isinstance(function, functools.partial):
        function = function.func
    # An object is called by its type's method; a class makes an object, whatever that can do.
    call = None if inspect.isclass(function) else getattr(type(function), "__call__", None)  # noqa: B004
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one)
        for one in (function, call)
    )
