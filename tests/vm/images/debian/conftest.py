"""A repository of small packages, which apt knows as this host's only one."""

from pathlib import Path

import pytest

from kernel_packages import Repository


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    (tmp_path / "repository").mkdir()
    repository = Repository(tmp_path / "repository")
    monkeypatch.setenv("APT_CONFIG", str(repository.config))
    return repository
