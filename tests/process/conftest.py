"""A service of each test's own; not the fixture that users get, which has tests itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.process import Service

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running
