"""A registry that misbehaves as a test wants it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from oci_registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    no_waiting = SimpleNamespace(sleep=lambda _seconds: None)
    monkeypatch.setattr("core_infra.vm._images.oci.registry.time", no_waiting)
    with FakeRegistry(tmp_path / "fake") as fake:
        yield fake
