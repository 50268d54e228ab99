"""Images that users bring: told apart by what is in them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.formats import ImageFormat, detect_format
from core_infra.vm._images.image import DiskImage, Image, host_arch
from core_infra.vm._images.load import load_image

if TYPE_CHECKING:
    from pathlib import Path

BOOT_SECTOR = b"\0" * 510 + b"\x55\xaa"
DISC = b"\0" * 0x8001 + b"CD001" + b"\0" * 2042
ELF = b"\x7fELF\x02\x01".ljust(18, b"\0") + b"\x3e\0" + b"\0" * 600


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.iso", DISC, ImageFormat.ISO),
        ("hybrid.img", BOOT_SECTOR + DISC[512:], ImageFormat.ISO),
        ("a.img", b"QFI\xfb" + b"\0" * 600, ImageFormat.QCOW2),
        ("no-extension", b"QFI\xfb" + b"\0" * 600, ImageFormat.QCOW2),
        ("a.vmdk", b"KDMV" + b"\0" * 600, ImageFormat.VMDK),
        ("b.vmdk", b"# Disk DescriptorFile\nversion=1\n", ImageFormat.VMDK),
        ("a.qcow2", BOOT_SECTOR, ImageFormat.RAW),
        ("A.RAW", b"\0" * 1024, ImageFormat.RAW),
        ("a.img", b"\0" * 1024, ImageFormat.RAW),
    ],
)
def test_by_content_and_then_by_name(
    tmp_path: Path, name: str, content: bytes, expected: ImageFormat
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert detect_format(path) is expected
    assert load_image(path) == DiskImage(path, expected, host_arch(), name)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.iso", b"\0" * 40_000, "not iso, although its name says so"),
        ("a.qcow2", b"hello", "begins with 68 65 6c 6c 6f, 5 bytes, and not qcow2"),
        ("a.img", b"\0" * 1000, "not a multiple of 512"),
        ("a.tar.xz", b"\xfd7zXZ\0", "an xz archive"),
        ("a.iso", b"", "is empty"),
    ],
)
def test_what_cannot_be_told_is_refused(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidError, match=why):
        detect_format(path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no image"):
        load_image(tmp_path / "nothing.iso")


def test_the_files_of_a_linuxkit_set_are_one_image(tmp_path: Path) -> None:
    for name, content in {"kernel": ELF, "initrd.img": b"0707", "cmdline": b"quiet"}.items():
        (tmp_path / f"it-{name}").write_bytes(content)
    given = [tmp_path, tmp_path / "it", *tmp_path.iterdir()]
    images = [load_image(path) for path in given]
    assert all(isinstance(image, Image) and image.name == "it" for image in images)


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
@pytest.mark.parametrize("format_", ["qcow2", "vmdk", "raw"])
def test_what_qemu_makes_is_known(tmp_path: Path, format_: str) -> None:
    path = tmp_path / "disk.raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", format_, path, "1M"], check=True)
    assert detect_format(path) == format_
