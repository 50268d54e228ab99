"""File systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from core_infra.medium.memory import MemoryMedium


@pytest.fixture
def core_medium() -> MemoryMedium:
    """An empty file system in memory: fast, and gone after the test.
    Code that takes a ``Medium`` instead of touching the disk itself can be tested with it:
    ``core_medium.write_text("etc/app.conf", "colour = blue")``, then ``load(core_medium)``.
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    from core_infra.medium.memory import MemoryMedium  # noqa: PLC0415 - who uses it pays for it

    return MemoryMedium()
