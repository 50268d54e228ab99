"""Disks and discs of LinuxKit files: they boot by a BIOS, with nothing but themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pycdlib
import pytest

from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.process import LogPattern, Service
from core_infra.vm import Launcher
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.linuxkit import boot_disk
from core_infra.vm._images.linuxkit.output import build_files
from linuxkit_images import write_busybox
from oci_images import Entry, layer, write_layout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE = """\
onboot:
- {{name: hello, image: '{image}', command: [sh, -c, 'echo it has booted; busybox poweroff -f']}}
{more}
"""
QEMU = ("qemu-system-x86_64", "-m", "1024", "-display", "none", "-serial", "stdio", "-no-reboot")

pytestmark = pytest.mark.skipif(host_arch() != "x86_64", reason="syslinux is for x86-64")


def build(
    directory: Path,
    formats: Sequence[str],
    more: str = "",
    *,
    text: str = FILE,
    agent: bool = False,
) -> dict[str, Path]:
    directory.mkdir(exist_ok=True)
    image = write_busybox(directory / "image")
    file = directory / "web.yml"
    file.write_text(text.format(image=image, more=more))
    made = build_files(
        [file],
        directory / "made",
        name="web",
        arch="x86_64",
        formats=formats,
        agent=agent,
        progress=lambda _line: None,
    )
    return {path.suffix[1:]: path for path in made}


@pytest.mark.long
def test_disks_and_discs_boot(tmp_path: Path) -> None:
    made = build(tmp_path, ["raw", "qcow2", "iso"])
    assert set(made) == {"raw", "qcow2", "iso"}
    assert build(tmp_path / "again", ["raw"])["raw"].read_bytes() == made["raw"].read_bytes()
    drives = {
        "qcow2": ("-drive", f"file={made['qcow2']},format=qcow2,if=virtio"),
        "iso": ("-cdrom", str(made["iso"])),
    }
    with Service() as service:
        machines = [service.start(*QEMU, *drive) for drive in drives.values()]
        for machine in machines:
            machine.wait_ready(LogPattern("it has booted"), timeout=300)


@pytest.mark.long
def test_a_disk_with_the_agent_is_a_machine_of_a_test(tmp_path: Path) -> None:
    text = "services:\n- {{name: web, image: '{image}', command: [busybox, sleep, '10000']}}\n"
    disk = build(tmp_path, ["qcow2"], text=text, agent=True)["qcow2"]
    with Launcher(image=disk) as launcher:
        machine = launcher.clone()
        assert machine.exec("oci-runtime list -q", check=True).stdout == "web\n"


def test_a_disc_can_be_read_and_has_what_uefi_boots(tmp_path: Path) -> None:
    path = build(tmp_path, ["iso"])["iso"]
    disc = pycdlib.PyCdlib()
    disc.open(str(path))
    catalog = disc.eltorito_boot_catalog
    assert catalog is not None
    assert catalog.initial_entry.boot_media_type == 4  # a hard disk
    (section,) = catalog.sections
    (uefi,) = section.section_entries
    disc.close()
    with path.open("rb") as file:
        file.seek(uefi.load_rba * 2048 + 82)
        assert file.read(8) == b"FAT32   "


def test_a_kernel_that_no_loader_starts_is_one_sentence(tmp_path: Path) -> None:
    head = b"\x7fELF\x02\x01".ljust(18, b"\0") + b"\x3e\0"
    write_layout(tmp_path / "kernel", [layer([Entry("kernel", data=head.ljust(1000, b"\0"))])])
    kernel = f"kernel: {{image: 'oci-layout:{tmp_path / 'kernel'}'}}"
    why = re.escape("no boot loader starts its kernel, which is an ELF file for x86_64")
    with pytest.raises(InvalidError, match=why):
        build(tmp_path, ["raw"], kernel)
    assert list((tmp_path / "made").iterdir()) == []


def test_without_the_loaders_packages_the_error_names_what_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> list[Path]:
        raise NotFoundError("apt knows no package syslinux", todo="Pass an image of your own.")

    monkeypatch.setattr(boot_disk, "kept_packages", unknown)
    with pytest.raises(UnavailableError, match=r"no package syslinux\nUse the formats kernel"):
        build(tmp_path, ["raw"])
