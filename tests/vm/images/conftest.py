"""A disk that is converted to other formats, and a cache of a test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from disk_images import SIZE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with a boot sector, with something in the middle, and at its end."""
    path = tmp_path_factory.mktemp("raw") / "d.raw"
    content = bytearray(SIZE)
    content[:6], content[510:512], content[-3:] = b"seeded", b"\x55\xaa", b"end"
    content[SIZE // 2 : SIZE // 2 + 5] = b"half."
    path.write_bytes(content)
    return path
