"""Errors of several parts: of the library's tree, and groups as Python's own."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from core_infra import errors as tree
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.framework import ActionError, GroupError, ShutdownError, StartupError
from core_infra.framework import _errors as framework_errors

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS = [GroupError, ActionError, StartupError, ShutdownError]


def group() -> StartupError:
    missing = NotFoundError("no file", why="it was deleted", path="a/b")
    missing.add_note("a note")
    return StartupError("cannot start", [missing, ValueError("two\nlines"), KeyError("k")], fact=7)


def test_the_frameworks_errors_are_in_the_tree() -> None:
    kinds = {getattr(tree, name) for name in vars(tree) if name.endswith("Error")}
    for kind in vars(framework_errors).values():
        if isinstance(kind, type) and kind.__module__ == framework_errors.__name__:
            assert len((kinds - {CoreInfraError}) & set(kind.__mro__)) == (
                0 if issubclass(kind, GroupError) else 1
            )
            assert issubclass(kind, CoreInfraError)


def test_the_message_tells_each_error_in_a_line() -> None:
    assert str(group()) == (
        "cannot start: NotFoundError: no file: it was deleted; ValueError: two; KeyError: 'k'"
    )


def test_except_star_finds_what_is_inside() -> None:
    found: list[object] = []
    try:
        raise group()
    except* NotFoundError as part:
        found += [type(part), vars(part.exceptions[0])["path"], vars(part)["fact"]]
    except* (ValueError, KeyError) as part:
        found += [type(part), len(part.exceptions), str(part)]
    assert found == [
        *(StartupError, "a/b", 7),
        *(StartupError, 2, "cannot start: ValueError: two; KeyError: 'k'"),
    ]


def test_a_group_is_caught_as_the_librarys_error_and_as_pythons() -> None:
    for kind in (CoreInfraError, ExceptionGroup):
        with pytest.raises(kind):
            raise group()


def test_nothing_to_group_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        ActionError("cannot", [])


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize(
    "again",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],  # noqa: S301
)
def test_a_group_survives_pickling_and_copying(
    kind: type[GroupError], again: Callable[[Any], Any]
) -> None:
    error = kind("cannot", [InvalidError("bad", why="so", number=1), ValueError("x")], action="a")
    error.add_note("a note")
    error.exceptions[0].add_note("another")
    second = again(error)
    assert type(second) is kind
    assert (str(second), repr(second), second.facts) == (str(error), repr(error), error.facts)
    assert (second.action, second.__notes__) == ("a", ["a note"])
    assert list(map(repr, second.exceptions)) == list(map(repr, error.exceptions))
    first = vars(second.exceptions[0])
    assert (first["number"], first["__notes__"]) == (1, ["another"])
