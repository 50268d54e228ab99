"""The part of the cache's key that says what our own init is made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import UnavailableError
from core_infra.vm._cache import cache_root
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.linuxkit.own_init import own_init_key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))


def key() -> str:
    return own_init_key(host_arch(), lambda _line: None)


def choose(*names: str) -> Path:
    """Keep these packages as those that apt has chosen once."""
    directory = cache_root() / "runtime" / host_arch()
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).touch()
    (directory / "chosen.json").write_text(json.dumps({"lists": "", "packages": names}))
    return directory


def test_another_version_of_the_runtime_is_another_key() -> None:
    choose("crun_1.8_amd64.deb", "libc6_2.36_amd64.deb")
    first = key()
    assert key() == first
    choose("crun_1.9_amd64.deb", "libc6_2.36_amd64.deb")
    assert key() != first


def test_packages_that_are_gone_are_asked_for_again() -> None:
    directory = choose("crun_1.8_amd64.deb")
    (directory / "crun_1.8_amd64.deb").unlink()
    with pytest.raises(UnavailableError, match="apt"):
        key()


@pytest.mark.parametrize("content", ["", "[]", '{"lists": ""}', '{"lists": "", "packages": 1}'])
def test_a_damaged_record_is_as_none(content: str) -> None:
    (choose() / "chosen.json").write_text(content)
    with pytest.raises(UnavailableError, match="apt"):
        key()
