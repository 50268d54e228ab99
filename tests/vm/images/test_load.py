"""A path, or an image, becomes the image that a machine boots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError
from core_infra.vm import DiskImage, ImageFormat, load_image
from core_infra.vm._images.load import Request, resolve_image

if TYPE_CHECKING:
    from pathlib import Path

KERNEL = b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\0" + bytes(600)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "d.raw"
    path.write_bytes(bytes(1024))
    return path


def progress(line: str) -> None:
    pytest.fail(f"nothing of this is slow: {line}")


def test_a_disk_is_for_the_architecture_that_is_asked_for(disk: Path) -> None:
    for arch in ("aarch64", "arm64"):
        expected = DiskImage(disk, ImageFormat.RAW, "aarch64", "d.raw")
        assert resolve_image(Request(disk, arch), progress=progress) == expected
        assert resolve_image(Request(load_image(disk), arch), progress=progress) == expected


def test_a_kernel_is_only_for_its_own_architecture(tmp_path: Path) -> None:
    (tmp_path / "it-kernel").write_bytes(KERNEL)
    (tmp_path / "it-initrd.img").write_bytes(b"070701")
    image = load_image(tmp_path / "it")
    assert resolve_image(Request(image, "x86_64"), progress=progress) is image
    for wanted in (image, tmp_path):
        with pytest.raises(InvalidError, match="its kernel is for x86_64"):
            resolve_image(Request(wanted, "aarch64"), progress=progress)


def test_no_path_and_no_such_architecture_are_refused(disk: Path) -> None:
    with pytest.raises(InvalidError, match="path of an image must not be empty"):
        load_image("")
    with pytest.raises(InvalidError, match="no machines for the architecture 'vax'"):
        load_image(disk, arch="vax")
