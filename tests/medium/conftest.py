from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from core_infra.medium import LocalMedium, Medium, MemoryMedium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(params=["local", "memory"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Medium:
    return LocalMedium(tmp_path) if request.param == "local" else MemoryMedium()
