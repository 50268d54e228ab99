"""The processor that a guest gets, by QEMU's version and its kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core_infra.errors import InvalidError
from core_infra.vm._hardware import check_processor
from core_infra.vm._hypervisors.processor import (
    advice,
    explanation,
    kernel_arguments,
    kernel_release,
    processor,
)
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import DiskImage, Image

OLD, NEW = "7.2.22", "8.0.0"
DEFAULT = processor("x86_64", "tcg")


def elf(release: str) -> bytes:
    return b"\x7fELF\x02\x01" + bytes(600) + f"Linux version {release} (gcc) #1 SMP\0".encode()


def bzimage(release: str) -> bytes:
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x100).to_bytes(2, "little")
    return bytes(head[:0x300]) + release.encode() + b" (x) #1\0"


def image(tmp_path: Path, content: bytes, cmdline: str = "") -> Image:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(content)
    return Image(kernel, None, cmdline, "x86_64", "it", has_agent=True, console="ttyS0")


def test_a_guest_copies_by_words_and_not_by_bytes() -> None:
    # One without the other hangs Linux before 6.3 in its memmove.
    assert {"erms=off", "fsrm=off"} <= set(DEFAULT.split(","))


def test_what_is_asked_for_is_taken_as_it_is() -> None:
    assert processor("x86_64", "tcg", "Skylake-Client,hle=off") == "Skylake-Client,hle=off"
    assert processor("x86_64", "kvm") == processor("aarch64", "hvf") == "host"
    assert processor("aarch64", "tcg") == "max,pauth-impdef=on"


@pytest.mark.parametrize("make", [elf, bzimage])
@pytest.mark.parametrize(
    ("release", "version", "expected"),
    [
        ("6.12.95+deb12-cloud-amd64", OLD, ["clearcpuid=141"]),
        ("6.5.0", OLD, ["clearcpuid=141"]),
        ("6.4.16", OLD, []),
        ("5.15.0-204-generic", OLD, []),
        ("6.12.95+deb12-cloud-amd64", NEW, []),
        ("6.12.95+deb12-cloud-amd64", "10.0.13", []),
    ],
)
def test_a_kernel_does_without_what_its_qemu_emulates_wrongly(
    tmp_path: Path, make: object, release: str, version: str, expected: list[str]
) -> None:
    assert callable(make)
    booted = image(tmp_path, make(release))
    assert kernel_arguments(booted, DEFAULT, "tcg", version) == expected
    assert bool(explanation(booted, DEFAULT, "tcg", version)) == bool(expected)


def test_a_kernel_that_does_not_show_its_version_may_be_concerned(tmp_path: Path) -> None:
    packed = image(tmp_path, b"\x7fELF\x02\x01" + bytes(99))
    assert kernel_release(packed.kernel) is None
    assert kernel_arguments(packed, DEFAULT, "tcg", OLD) == ["clearcpuid=141"]


def test_nothing_is_added_to_what_the_user_has_seen_to(tmp_path: Path) -> None:
    concerned = image(tmp_path, elf("6.12.95"))
    assert not kernel_arguments(concerned, f"{DEFAULT},cx16=off", "tcg", OLD)
    assert not kernel_arguments(concerned, "host", "kvm", OLD)
    assert not kernel_arguments(replace(concerned, arch="aarch64"), "max", "tcg", OLD)
    assert not kernel_arguments(replace(concerned, cmdline="clearcpuid=9"), DEFAULT, "tcg", OLD)


def test_a_disk_that_panics_gets_advice() -> None:
    disk = DiskImage(Path("disk"), ImageFormat.RAW, "x86_64", "disk")
    assert f"{DEFAULT},cx16=off" in advice(disk, DEFAULT, "tcg", OLD)
    assert not advice(disk, f"{DEFAULT},cx16=off", "tcg", OLD)
    assert not advice(disk, DEFAULT, "tcg", NEW)


@pytest.mark.parametrize("wanted", ["", "max, cx16=off", "max\n", 5, True])
def test_what_is_no_processor_is_refused(wanted: object) -> None:
    with pytest.raises(InvalidError, match="such as max,cx16=off"):
        check_processor(wanted)
