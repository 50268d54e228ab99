"""Disks in all formats, made by qemu-img, and used as machines use them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from core_infra.vm._disks import as_disks, usable

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._hardware import Disk

SIZE = 8 << 20
VMDK = ("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized")
FORMATS = {
    "d.vdi": ("vdi", ""),
    "d.vhd": ("vpc", ""),
    "fixed.vhd": ("vpc", "subformat=fixed"),
    "d.vhdx": ("vhdx", ""),
    "d.qcow": ("qcow", ""),
    "d.qed": ("qed", ""),
    "d.parallels": ("parallels", ""),
    "d.vmdk": ("vmdk", ""),
    **{f"{kind}.vmdk": ("vmdk", f"subformat={kind}") for kind in VMDK},
}


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True)


def make(raw: Path, target: Path) -> Path:
    format_, options = FORMATS[target.name]
    qemu_img("convert", "-O", format_, *(["-o", options] if options else []), raw, target)
    return target


def use(path: Path, told: list[str] | None = None) -> Disk:
    return usable(as_disks([path])[0], (told if told is not None else []).append)


def is_same(raw: Path, disk: Disk) -> None:
    qemu_img("compare", "-f", "raw", "-F", disk.format, raw, disk.path)
