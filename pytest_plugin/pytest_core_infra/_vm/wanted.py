"""The machines that collected tests ask for, by a fixture, a marker and parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _pytest.skipping import evaluate_skip_marks, evaluate_xfail_marks

from pytest_core_infra._vm import marker

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest


def wanted(items: Iterable[pytest.Item]) -> list[dict[str, Any]]:
    """What the machines are made of that these tests will have, each kind once.

    A test that has no machine, but what makes machines when it is called, does not say beforehand
    what it will ask for.
    """
    kinds: list[dict[str, Any]] = []
    for item in items:
        for scope, fixture in marker.MACHINES.items():
            if marker.uses(item, fixture) and not _is_skipped(item):
                kind = marker.asked_for(item, fixture, scope=scope)
                kind.pop("revert", None)
                if kind not in kinds:
                    kinds.append(kind)
    return kinds


def _is_skipped(item: pytest.Item) -> bool:
    try:
        if evaluate_skip_marks(item) is not None:
            return True
        expected = evaluate_xfail_marks(item)
    except BaseException:  # noqa: BLE001 - a condition of the user's; pytest reports it in its turn
        return True
    return expected is not None and not expected.run
