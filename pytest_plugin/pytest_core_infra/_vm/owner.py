"""The owner of a machine: a test, or a fixture that several tests share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from core_infra.vm._machine_state import Ending

if TYPE_CHECKING:
    from _pytest.nodes import Node

_SHARED = "Tests share a machine by core_vm_class, core_vm_module or core_vm_session."
_LEFT = "Do not end a machine that tests share; a test may end its core_vm."


class Owner(NamedTuple):
    """The owner of a machine.

    Attributes:
        node: the part of the run at whose end the machine ends: a test, a class, a module, ….
        fixture: the fixture that it belongs to; empty if it belongs to a test.
    """

    node: Node
    fixture: str = ""

    @property
    def name(self) -> str:
        """A name for files."""
        return self.node.name or self.fixture

    @property
    def label(self) -> str:
        """The name in messages."""
        return f"{self.fixture} of {_place(self.node)}" if self.fixture else self.node.nodeid

    def outlives(self, following: pytest.Item | None) -> bool:
        """Whether it still exists in the next test."""
        return following is not None and self.node in following.listchain()

    def ending(self) -> Ending:
        """What errors of a machine say after it ended with its owner."""
        if not self.fixture:
            return Ending(f"the end of {self.node.nodeid}, which it belonged to", _SHARED)
        return Ending(f"the end of {_place(self.node)}: it belonged to {self.fixture}")

    def interrupted_by(self, request: pytest.FixtureRequest | None) -> Ending | None:
        """What errors of a machine say after a test or fixture has ended it.

        Args:
            request: the request of the fixture that is being set up, if any.
        """
        test = os.environ.get("PYTEST_CURRENT_TEST")  # "test_a.py::test_one (call)"
        if test is None:
            return None
        by = f"the fixture {request.fixturename} in {test}" if request is not None else test
        return Ending(by, _LEFT if self.fixture else "")


def _place(node: Node) -> str:
    return "the session" if isinstance(node, pytest.Session) else node.nodeid
