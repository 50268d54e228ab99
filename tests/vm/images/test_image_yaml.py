"""Descriptions of images: ``image.yaml``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, InvalidFileError, NotFoundError
from core_infra.vm._images.image import DiskImage, Image, disk_of, host_arch
from core_infra.vm._images.load import load_image

if TYPE_CHECKING:
    from pathlib import Path

KERNEL = b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\0" + bytes(600)
SECTORS = bytes(510) + b"\x55\xaa" + bytes(512)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "vmlinuz").write_bytes(KERNEL)
    (tmp_path / "initrd").write_bytes(b"cpio")
    (tmp_path / "root.raw").write_bytes(SECTORS)
    return tmp_path


def described(files: Path, text: str) -> Image | DiskImage:
    (files / "image.yaml").write_text(text)
    return load_image(files)


def mistakes(files: Path, text: str) -> list[str]:
    with pytest.raises(InvalidFileError) as failure:
        described(files, text)
    found = failure.value.mistakes
    assert all(str(each) in str(failure.value) for each in found)
    assert {each.file for each in found} == {str(files / "image.yaml")}
    return [str(each).removeprefix(f"{each.file}:") for each in found]


def test_all_that_a_machine_needs(files: Path) -> None:
    image = described(
        files,
        "kernel: vmlinuz\ninitrd: initrd\ncmdline: >\n  root=/dev/vda1\n  quiet\ndisk: root.raw\n"
        "memory: 300\ncpus: 2\ncpu: max,cx16=off\narch: x86_64\n",
    )
    assert isinstance(image, Image)
    assert (image.kernel, image.initrd) == (files / "vmlinuz", files / "initrd")
    assert image.cmdline == "console=ttyS0 root=/dev/vda1 quiet"
    assert (image.memory, image.cpus, image.cpu) == (300, 2, "max,cx16=off")
    disk = disk_of(image)
    assert disk is not None
    assert (disk.path, disk.format, disk.boot) == (files / "root.raw", "raw", False)
    assert load_image(files / "image.yaml") == image


def test_a_root_on_the_disk_need_not_be_told(files: Path) -> None:
    image = described(files, "kernel: vmlinuz\ndisk: root.raw\n")
    assert isinstance(image, Image)
    assert image.initrd is None
    assert image.cmdline == "console=ttyS0 root=/dev/vda rw"


def test_the_set_beside_it_is_its_kernel(files: Path) -> None:
    (files / "vmlinuz").rename(files / "it-kernel")
    (files / "initrd").rename(files / "it-initrd.img")
    (files / "it-cmdline").write_text("one two\n")
    image = described(files, "disk: root.raw\nmemory: 400\n")
    assert isinstance(image, Image)
    assert (image.kernel, image.initrd) == (files / "it-kernel", files / "it-initrd.img")
    assert image.cmdline == "console=ttyS0 root=/dev/vda rw one two"
    other = described(files, "cmdline: three\n")
    assert isinstance(other, Image)
    assert other.cmdline == "console=ttyS0 three"


def test_a_disk_that_boots_by_itself(files: Path) -> None:
    image = described(files, "disk: root.raw\nmemory: 400\ncpu: max\n")
    assert isinstance(image, DiskImage)
    assert (image.memory, image.cpu, image.arch) == (400, "max", host_arch())
    image = described(files, "disk: root.raw\narch: arm64\n")
    assert image.arch == "aarch64"


def test_a_disk_by_its_name(files: Path) -> None:
    (files / "vmlinuz").rename(files / "it-kernel")
    (files / "initrd").rename(files / "it-initrd.img")
    (files / "root.raw").rename(files / "it-disk.raw")
    image = load_image(files)
    assert isinstance(image, Image)
    assert image.disk == files / "it-disk.raw"
    assert image == load_image(files / "it")
    (files / "it-disk.img").write_bytes(SECTORS)
    with pytest.raises(InvalidError, match="it has 2 disks"):
        load_image(files)


def test_all_mistakes_are_reported_at_once_with_line_and_field(files: Path) -> None:
    assert mistakes(
        files,
        "kernel: nowhere\nmemory: lots\ncpus: 0\n\ncpu: a b\narch: vax\nmemry: 3\n"
        "disk: initrd\ncmdline: 5\nmemory: 300\n",
    ) == [
        f"1: kernel: The image has no file {files / 'nowhere'}",
        "2: memory: expected a whole number of at least 1, found a string: 'lots'",
        "3: cpus: expected a whole number from 1 to 255, found a whole number: '0'",
        "5: cpu: cannot use 'a b' as a processor",
        "6: arch: there are no machines for the architecture 'vax'",
        "7: memry: unknown field; did you mean 'memory'?",
        *[each for each in mistakes(files, "\n\n\n\n\n\n\ndisk: initrd\n") if each[0] == "8"],
        "9: cmdline: expected a string, found a whole number: '5'; put it in quotes",
        "10: memory: duplicate field; it is first on line 2",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory: 1.5", "1: memory: expected a whole number of at least 1, found a number: '1.5'"),
        ("memory: 10", "1: memory: cannot boot a machine with 10 MiB"),
        ("memory: 0x100", "1: memory: expected a whole number of at least 1"),
        ("cmdline: [a]", "1: cmdline: expected a string, found a list"),
        ("disk: ''", "1: disk: it must not be empty"),
        ("disk: vmlinuz", "1: disk: cannot use"),
        ("disk: root.raw\ncmdline: a", "2: cmdline: it needs a kernel"),
        ("kernel: vmlinuz\narch: aarch64", "2: arch: the kernel is for x86_64"),
        ("kernel: initrd", "1: kernel: "),
        ("- a", "1: expected a mapping, found a list"),
        ("a: [", "1: invalid YAML"),
        ("a\0b: 1", "1: invalid YAML"),
        ("[" * 5000, "1: it is nested more than 32 levels deep"),
    ],
)
def test_one_mistake(files: Path, text: str, expected: str) -> None:
    [found] = mistakes(files, text)
    assert found.startswith(expected)


def test_a_description_of_nothing(files: Path) -> None:
    with pytest.raises(NotFoundError, match="neither a kernel nor a disk"):
        described(files, "memory: 300\n")
    with pytest.raises(NotFoundError, match="neither a kernel nor a disk"):
        described(files, "")
