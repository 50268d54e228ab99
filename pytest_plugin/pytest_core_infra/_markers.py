"""The arguments of the plugin's markers: checked when tests are collected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Argument(NamedTuple):
    """An argument of a marker.

    Attributes:
        types: its types; True and False are numbers only if ``bool`` is one of them.
        meaning: what it must be, as in "needs *meaning* as memory".
        module: types of this module are taken, too; importing it is slow, and each run reads
            markers.
    """

    types: tuple[type, ...]
    meaning: str
    module: str = ""

    def takes(self, value: object) -> bool:
        """Whether a value is of its types."""
        if isinstance(value, bool):
            return bool in self.types
        return isinstance(value, self.types) or type(value).__module__ == self.module


def mark_mistakes(mark: pytest.Mark, arguments: Mapping[str, Argument]) -> Iterator[str]:
    """The mistakes in the arguments of a marker, one sentence each."""
    if mark.args:
        yield f"the marker {mark.name} takes no positional arguments, but was given {mark.args!r}"
    for text in argument_mistakes(mark.kwargs, arguments):
        yield f"the marker {mark.name} {text}"


def argument_mistakes(
    given: Mapping[Any, object], arguments: Mapping[str, Argument]
) -> Iterator[str]:
    """The mistakes in arguments, each without its subject."""
    for name, value in given.items():
        if name not in arguments:
            from core_infra._wording import similar  # noqa: PLC0415 - imported only if it is used

            likely = similar(str(name), arguments.keys())
            yield f"has no argument {name!r}; it has {', '.join(arguments)}{likely}"
        elif not arguments[name].takes(value):
            yield f"needs {arguments[name].meaning} as {name}, but was given {value!r}"


def report_mistakes(item: pytest.Item, mistakes: list[str]) -> None:
    """Report the mistakes in the markers of a test as errors of its collection."""
    # As a report and not as an exception: so each wrong test is reported, also by workers of
    # pytest-xdist, where an exception at this point is an internal error.
    text = "\n".join(f"{item.nodeid}: {mistake}" for mistake in mistakes)
    report = pytest.CollectReport(item.nodeid, "failed", longrepr=text, result=None)
    item.ihook.pytest_collectreport(report=report)
