"""The tree of errors."""

from __future__ import annotations

import copy
import errno
import pickle
import re
from typing import Any

import pytest

from core_infra import errors
from core_infra.errors import CommandFailedError, CoreInfraError, NotFoundError
from core_infra.medium import _errors as medium_errors
from core_infra.medium._errors import PathNotFoundError, path_error


class OddError(NotFoundError, FileNotFoundError, KeyError):
    """Has several builtin parents and a constructor of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(f"no {number}", why="it is odd", number=number)
        self.twice = 2 * number


def public(module: Any) -> list[type[CoreInfraError]]:
    """The errors that a module itself defines."""
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type)]
    return [
        kind
        for kind in kinds
        if issubclass(kind, CoreInfraError) and kind.__module__ == module.__name__
    ]


KINDS = [*public(errors), *public(medium_errors)]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    documented = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert [kind.__name__ for kind in public(errors)] == ["CoreInfraError", *documented]
    bases = {kind.__name__: kind.__bases__ for kind in public(errors)[1:]}
    assert bases.pop("InvalidFileError") == (errors.InvalidError,)
    assert set(bases.values()) == {(CoreInfraError,)}


@pytest.mark.parametrize("kind", public(medium_errors), ids=lambda kind: kind.__name__)
def test_a_packages_errors_are_of_one_kind_of_the_tree(kind: type[CoreInfraError]) -> None:
    top = set(public(errors)) - {CoreInfraError}
    assert len(top & set(kind.__mro__)) == 1


def test_the_message_says_what_why_and_what_to_do() -> None:
    assert str(CoreInfraError("it failed")) == "it failed"
    assert str(CoreInfraError("it failed", why="no reason")) == "it failed: no reason"
    assert str(CoreInfraError("it failed", todo="Try.")) == "it failed\nTry."
    assert str(CoreInfraError("a", why="b", todo="c")) == "a: b\nc"


def test_facts_are_attributes_and_others_are_not() -> None:
    error = CommandFailedError("make failed", exit_code=2, stdout=b"", command=["make"])
    assert (error.exit_code, error.stdout, error.command) == (2, b"", ["make"])
    assert error.facts == {"exit_code": 2, "stdout": b"", "command": ["make"]}
    assert not hasattr(error, "stderr")
    with pytest.raises(AttributeError, match="stderr"):
        _ = error.stderr


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_everything(kind: type[CoreInfraError], protocol: int) -> None:
    error = kind("it failed", why="because", todo="Try.", path="a/b", errno=5, blob=b"\0")
    error.add_note("seen in a test")
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
    assert type(again) is kind
    assert str(again) == str(error) == "it failed: because\nTry."
    assert repr(again) == repr(error)
    assert (again.what, again.why, again.todo) == ("it failed", "because", "Try.")
    assert again.facts == error.facts
    assert (again.path, again.errno, again.blob) == ("a/b", 5, b"\0")
    assert again.__notes__ == ["seen in a test"]


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301
def test_an_error_with_its_own_constructor_and_builtin_parents_survives(how: Any) -> None:
    again = how(OddError(21))
    assert type(again) is OddError
    assert (str(again), again.number, again.twice) == ("no 21: it is odd", 21, 42)
    assert isinstance(again, OSError)


def test_an_error_that_is_an_oserror_answers_as_one() -> None:
    error = path_error(errno.ENOENT, "read", "a", filename="/root/a")
    assert isinstance(error, PathNotFoundError)
    with pytest.raises(FileNotFoundError) as caught:
        raise error
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "/root/a")
    assert str(caught.value) == "cannot read '/root/a': there is no such file or directory"
