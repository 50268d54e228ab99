"""What a poller is given by its user, checked before it is asked for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Collection

_LONGEST = 200


def name_of(part: object, what: str, *methods: str) -> str:
    """The name of a source or a handler, which goes into journals, metrics and logs.

    Args:
        part: the source or handler.
        what: which of the two, for the error.
        methods: what it must have besides a name.

    Raises:
        InvalidError: it is none, or its name could not be told from others or from a path.
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
            why=f"it has no {', no '.join(lacks)}",
            todo=f"A {what} has a name, {needs}: see core_infra.jobrunner._interfaces.",
        )
    return _good(part.name, what)


def check_known(names: Collection[str], known: Collection[str]) -> None:
    """Refuse a name that no handler has: whoever mistypes it would let the handler act.

    Raises:
        InvalidError: there is such a name.
    """
    if isinstance(names, str):
        raise InvalidError(f"dry_run_handlers is {names!r}", todo="Give a list of names.")
    if unknown := [name for name in names if name not in known]:
        raise InvalidError(
            f"there is no handler {', '.join(map(repr, unknown))}",
            why="dry_run_handlers names it, and what it means would act for real",
            todo=f"The handlers are: {', '.join(known) or 'none'}.",
        )


def _good(name: object, what: str) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or not name.isprintable():
        todo = f"Give it one of 1 to {_LONGEST} characters that can be printed."
    elif what == "handler" and ("/" in name or not name.strip(".")):
        todo = "Give it one that has no slash and is not only dots."
    else:
        return name
    raise InvalidError(f"cannot add a {what} whose name is {name!r:.80}", todo=todo)
