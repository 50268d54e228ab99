from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.jobrunner.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(base: Path) -> Iterator[Journal]:
    with Journal(base) as journal:
        yield journal
