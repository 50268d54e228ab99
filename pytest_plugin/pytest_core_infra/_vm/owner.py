"""Whose a machine is: a test's, or a fixture's that several tests share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from core_infra.vm._machine_lifecycle import Ending

if TYPE_CHECKING:
    from _pytest.nodes import Node

_SHARED = "Tests share a machine by core_vm_class, core_vm_module or core_vm_session."
_LEFT = "A machine that tests share is left running; core_vm is one that a test may end."


class Owner(NamedTuple):
    """Whose a machine is.

    Attributes:
        node: the part of the run after which the machine goes: a test, a class, a module, ….
        fixture: the fixture that it belongs to; empty for a test's own.
    """

    node: Node
    fixture: str = ""

    @property
    def name(self) -> str:
        """What files are named after."""
        return self.node.name or self.fixture

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"{self.fixture} of {_place(self.node)}" if self.fixture else self.node.nodeid

    def outlives(self, following: pytest.Item | None) -> bool:
        """Whether it goes on with the test that comes next."""
        return following is not None and self.node in following.listchain()

    def ending(self) -> Ending:
        """What the errors of a machine say that went with its owner."""
        if not self.fixture:
            return Ending(f"the end of {self.node.nodeid}, whose own it was", _SHARED)
        return Ending(f"the end of {_place(self.node)}: it was of {self.fixture}")

    def interrupted_by(self, request: pytest.FixtureRequest | None) -> Ending | None:
        """What the errors of a machine say that somebody else has ended now.

        Args:
            request: of the fixture that is being set up, if any is.
        """
        test = os.environ.get("PYTEST_CURRENT_TEST")  # "test_a.py::test_one (call)"
        if test is None:
            return None
        by = f"the fixture {request.fixturename} in {test}" if request is not None else test
        return Ending(by, _LEFT if self.fixture else "")


def _place(node: Node) -> str:
    return "the session" if isinstance(node, pytest.Session) else node.nodeid
