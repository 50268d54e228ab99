"""A user's own image: found, or refused with a sentence that names the file."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.kernel_set import load_kernel_set
from kernel_packages import bzimage, elf_kernel

ARM64 = b"\0" * 0x38 + b"ARM\x64" + b"\0" * 600


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    (tmp_path / "web-kernel").write_bytes(bzimage(b"\0" * 64, 0))
    (tmp_path / "web-initrd.img").write_bytes(b"070701")
    (tmp_path / "web-cmdline").write_text("console=tty0 console=ttyS1,115200n8 quiet\n")
    return tmp_path / "web"


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("given", ["web", "web-kernel", "web-initrd.img", "web-cmdline", "."])
def test_a_set_is_found_by_its_name_its_files_and_its_directory(prefix: Path, given: str) -> None:
    image = load_kernel_set(prefix.parent / given)
    assert image.kernel == prefix.with_name("web-kernel")
    assert image.initrd == prefix.with_name("web-initrd.img")
    assert image.cmdline == "console=tty0 console=ttyS1,115200n8 quiet"
    assert image.console == "ttyS1"
    assert (image.arch, image.name, image.has_agent) == ("x86_64", "web", False)


def test_a_relative_name_still_works_in_another_directory(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prefix.parent)
    assert load_kernel_set("web").kernel.is_absolute()


@pytest.mark.parametrize(
    ("kernel", "arch", "console"),
    [(elf_kernel(), "x86_64", "ttyS0"), (ARM64, "aarch64", "ttyAMA0")],
    ids=["elf", "arm64"],
)
def test_without_a_command_line_the_kernel_talks_to_its_serial_line(
    prefix: Path, kernel: bytes, arch: str, console: str
) -> None:
    prefix.with_name("web-kernel").write_bytes(kernel)
    prefix.with_name("web-cmdline").unlink()
    image = load_kernel_set(prefix)
    assert (image.arch, image.console, image.cmdline) == (arch, console, f"console={console}")


def test_a_command_line_that_names_no_console_gets_one(prefix: Path) -> None:
    prefix.with_name("web-cmdline").write_text("quiet netconsole=x")
    assert load_kernel_set(prefix).cmdline == "console=ttyS0 quiet netconsole=x"


def test_serial_lines_of_other_architectures_are_left_out(prefix: Path) -> None:
    line = "console=tty0 console=ttyS0 console=ttyAMA0,115200 quiet"  # as in LinuxKit's own files
    prefix.with_name("web-cmdline").write_text(line)
    image = load_kernel_set(prefix)
    assert (image.cmdline, image.console) == ("console=tty0 console=ttyS0 quiet", "ttyS0")


@pytest.mark.parametrize("missing", ["web-kernel", "web-initrd.img"])
def test_a_missing_part_is_named(prefix: Path, missing: str) -> None:
    prefix.with_name(missing).unlink()
    with pytest.raises(NotFoundError, match=missing):
        load_kernel_set(prefix)


@pytest.mark.parametrize("part", ["web-kernel", "web-initrd.img", "web-cmdline"])
def test_an_empty_part_is_named(prefix: Path, part: str) -> None:
    prefix.with_name(part).write_bytes(b"")
    with pytest.raises(InvalidError, match=rf"{part} is empty"):
        load_kernel_set(prefix)


@pytest.mark.parametrize("part", ["web-kernel", "web-initrd.img", "web-cmdline"])
def test_an_unreadable_part_is_named(
    prefix: Path, part: str, request: pytest.FixtureRequest
) -> None:
    prefix.with_name(part).chmod(0)
    for directory in prefix.parents:
        if Path(tempfile.gettempdir()) in directory.parents:
            directory.chmod(0o755)
    request.getfixturevalue("ordinary_user")
    with pytest.raises(InvalidError, match=rf"{part} can't be read: Permission denied"):
        load_kernel_set(prefix)


def test_a_directory_in_place_of_a_file_is_refused(prefix: Path) -> None:
    prefix.with_name("web-kernel").unlink()
    prefix.with_name("web-kernel").mkdir()
    with pytest.raises(InvalidError, match="can't be read: Is a directory"):
        load_kernel_set(prefix)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"QFI\xfb", "a qcow2 disk"),
        (b"#!/bin/sh\n", "a script"),
        (b"hello", "something unknown that begins with 68 65 6c 6c 6f"),
        (b"\0" * 0x8001 + b"CD001", "an ISO 9660 disc"),
        (b"\x7fELF" + b"\0" * 14 + b"\x08\0", "an ELF file for machine number 8"),
    ],
)
def test_a_file_that_is_no_kernel_is_named_and_told_what_it_is(
    prefix: Path, content: bytes, found: str
) -> None:
    prefix.with_name("web-kernel").write_bytes(content)
    with pytest.raises(InvalidError, match=rf"web-kernel is not .* kernel: it is {found}"):
        load_kernel_set(prefix)
    disk = prefix.with_name("disk.img")
    disk.write_bytes(content)
    with pytest.raises(InvalidError, match=rf"disk.img is not an image: it is {found}") as caught:
        load_kernel_set(disk)
    assert "NAME-initrd.img" in caught.value.todo


def test_nothing_there_says_what_an_image_is(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing-kernel") as caught:
        load_kernel_set(tmp_path / "nothing")
    assert "NAME-kernel" in caught.value.todo
    with pytest.raises(NotFoundError, match="no image in the directory"):
        load_kernel_set(tmp_path)


def test_a_directory_with_two_images_asks_which(prefix: Path) -> None:
    prefix.with_name("db-kernel").write_bytes(elf_kernel())
    with pytest.raises(InvalidError, match="2 images: they are db, web"):
        load_kernel_set(prefix.parent)
