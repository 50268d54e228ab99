from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.process._service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        yield service
        assert not service.running()
