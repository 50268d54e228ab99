"""What a hypervisor needs to know of a bootable image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONSOLES = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
"""The serial line of each architecture that a guest may have."""


@dataclass(frozen=True)
class Image:
    """A bootable image: a kernel and the file system that it starts with.

    Attributes:
        kernel: the kernel's file.
        initrd: the initial file system's file; None if the kernel has one inside.
        cmdline: the kernel's command line.
        arch: the machine's architecture as ``uname -m`` says it: ``x86_64`` or ``aarch64``.
        name: for people to tell it from others.
        has_agent: whether core-infra's agent runs in it.
        console: the guest's name of the serial line that its kernel talks to, like ``ttyS0``.
    """

    kernel: Path
    initrd: Path | None
    cmdline: str
    arch: str
    name: str
    has_agent: bool
    console: str
