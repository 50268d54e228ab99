"""What the address of an image means."""

from pathlib import Path

import pytest

from core_infra.vm._images.addresses import is_host, is_release


def test_an_image_of_that_name_in_the_working_directory_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "debian").mkdir()  # of a project that is packaged
    assert is_release("debian")
    assert is_release("ubuntu:22.04")
    assert not is_release("./debian")
    assert not is_release(Path("debian"))
    (tmp_path / "debian" / "it-kernel").touch()
    assert not is_release("debian")


def test_this_host_is_named_so_unless_an_image_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host").mkdir()
    assert is_host("host")
    assert not is_host(Path("./host/."))
    (tmp_path / "host" / "image.yaml").touch()
    assert not is_host("host")
