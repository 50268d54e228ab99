"""Checks the sources and handlers that a poller is given, before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Collection

_LENGTH_MAX = 200


def checked_name(part: object, what: str, *methods: str) -> str:
    """The name of a source or a handler, which is used in journals, metrics and logs.

    Args:
        part: the source or handler.
        what: "source" or "handler", for the error.
        methods: the methods that it must have.

    Raises:
        InvalidError: it lacks something, or its name cannot be used.
    """
    if isinstance(part, type):
        raise InvalidError(
            f"cannot add {part.__name__} as a {what}",
            why="it is a class",
            todo=f"Give an object of it: {part.__name__}(…).",
        )
    lacking = [method for method in methods if not callable(getattr(part, method, None))]
    if lacking or not hasattr(part, "name"):
        lacks = [f"{method}()" for method in lacking]
        lacks += [] if hasattr(part, "name") else ["name"]
        needs = ", ".join(f"{method}()" for method in methods)
        raise InvalidError(
            f"cannot add {part!r:.200} as a {what}",
            why=f"it lacks {', '.join(lacks)}",
            todo=f"A {what} has a name, {needs}: see core_infra.jobrunner.Job{what.title()}.",
        )
    return usable_name(part.name, what)


def check_handler_names(names: Collection[str], known: Collection[str]) -> None:
    """Check names of handlers for a dry run: with a mistyped name, the handler would act.

    Raises:
        InvalidError: there is no handler of a name.
    """
    if isinstance(names, str):
        raise InvalidError(f"dry_run_handlers is {names!r}", todo="Give a list of names.")
    if unknown := [name for name in names if name not in known]:
        raise InvalidError(
            f"there is no handler {', '.join(map(repr, unknown))}",
            why="dry_run_handlers names it, and the handler that is meant would act",
            todo=f"The handlers are: {', '.join(known) or 'none'}.",
        )


def usable_name(name: object, what: str) -> str:
    """The name, if a source or a handler can have it; raises InvalidError otherwise."""
    if not isinstance(name, str) or not 0 < len(name) <= _LENGTH_MAX or not name.isprintable():
        todo = f"Give it one of 1 to {_LENGTH_MAX} characters that can be printed."
    elif what == "handler" and ("/" in name or not name.strip(".")):
        todo = "Give it one that has no slash and is not only dots."
    else:
        return name
    raise InvalidError(f"cannot add a {what} whose name is {name!r:.80}", todo=todo)
