"""The processor of an emulated guest: one that works with QEMU's version and the guest's kernel.

``docs/processors.md`` has the reason for each flag, and the QEMUs and kernels that were tried.
"""

from __future__ import annotations

import functools
import mmap
import re
from typing import TYPE_CHECKING

from core_infra.vm._images.image import Image

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._images.image import Bootable

# Features that are slow to emulate and useless in tests. SMAP and SMEP guard against attacks that
# do not happen here; LA57 makes page walks longer. With ERMS and FSRM a kernel copies and clears by
# bytes, which QEMU emulates one by one. Always both: with FSRM alone, the memmove of Linux before
# 6.3 takes no path at all for short blocks, and hangs (QEMU has FSRM since 8.0).
_SLOW = "smap=off,smep=off,erms=off,fsrm=off,la57=off"

# Pointers are signed and checked at each call: by the architecture's own cipher, an emulated kernel
# takes three times as long to boot.
_EMULATED = {"x86_64": f"max,{_SLOW}", "aarch64": "max,pauth-impdef=on"}

_MENDED = (8, 0)
"""The first QEMU whose cmpxchg16b sets the flags right."""

_CONCERNED = (6, 5)
"""The first Linux that branches on those flags wherever it allocates memory."""

_CX16 = 141
"""Linux's number of the feature, which every version knows; names came with 5.19."""

_RELEASE = re.compile(rb"(\d+)\.(\d+)\S*")
_BANNER = b"Linux version "


def processor(arch: str, accelerator: str, wanted: str | None = None) -> str:
    """The value of QEMU's ``-cpu``: *wanted*, else one that suits the accelerator."""
    if wanted:
        return wanted
    if accelerator != "tcg":
        return "host"
    return _EMULATED[arch]


def kernel_arguments(image: Image, cpu: str, accelerator: str, version: str) -> list[str]:
    """The arguments that the guest's kernel needs on this processor of this QEMU.

    Args:
        image: what is booted.
        cpu: the value of ``-cpu``.
        accelerator: how the guest's instructions run.
        version: QEMU's.
    """
    if not _has_wrong_flags(image.arch, cpu, accelerator, version):
        return []
    release = kernel_release(image.kernel)
    if "clearcpuid=" in image.cmdline or (release is not None and release < _CONCERNED):
        return []
    # Only the kernel does not use it: programs that were built for x86-64-v2 check for it.
    return [f"clearcpuid={_CX16}"]


def explanation(image: Bootable, cpu: str, accelerator: str, version: str) -> str:
    """Why a guest's kernel gets more arguments than the image's; "" if it does not."""
    if isinstance(image, Image) and kernel_arguments(image, cpu, accelerator, version):
        return (
            f"its kernel does without cmpxchg16b (clearcpuid={_CX16}), "
            f"which QEMU {version} emulates wrongly"
        )
    return ""


def advice(image: Bootable, cpu: str, accelerator: str, version: str) -> str:
    """What to do about a kernel that panicked, if QEMU may be to blame; "" if not."""
    if isinstance(image, Image) or not _has_wrong_flags(image.arch, cpu, accelerator, version):
        return ""
    return (
        f"QEMU {version} emulates cmpxchg16b wrongly, which Linux {_CONCERNED[0]}.{_CONCERNED[1]} "
        f"and newer may panic of. Try the processor {processor(image.arch, accelerator)},cx16=off "
        "(--core-vm-cpu), or QEMU 8.0 or newer."
    )


def kernel_release(kernel: Path) -> tuple[int, int] | None:
    """The first two numbers of a kernel's version, if the file shows them.

    Of a file that was removed after it was read, it is what the file had: machines are cloned
    without it. The code that boots one reports that the file is missing.
    """
    try:
        status = kernel.stat()
    except FileNotFoundError:
        return _releases.get(kernel)
    _releases[kernel] = _release_in(kernel, status.st_size, status.st_mtime_ns)
    return _releases[kernel]


def _has_wrong_flags(arch: str, cpu: str, accelerator: str, version: str) -> bool:
    if arch != "x86_64" or accelerator != "tcg" or "cx16=off" in cpu.split(","):
        return False
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < _MENDED


_releases: dict[Path, tuple[int, int] | None] = {}


@functools.lru_cache(maxsize=64)  # read once in each run, not for each machine
def _release_in(kernel: Path, size: int, _modified: int) -> tuple[int, int] | None:
    if not size:
        return None
    with (
        kernel.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        if data[0x202:0x206] == b"HdrS":  # a bzImage: its header leads to the version
            at = 0x200 + int.from_bytes(data[0x20E:0x210], "little")
        else:
            at = data.find(_BANNER) + len(_BANNER)
        match = _RELEASE.match(data[at : at + 128]) if at >= len(_BANNER) else None
    return (int(match[1]), int(match[2])) if match else None
