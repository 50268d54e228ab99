"""Hyperkit: the hypervisor of Docker's and LinuxKit's earlier days on Intel Macs.

It is not tested on a Mac: its command line is held to the contract of
:mod:`core_infra.testing._hypervisor_contract` with a program that stands in for it.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from core_infra._unpatched import shutil, subprocess
from core_infra.errors import InvalidError, UnavailableError
from core_infra.vm._hypervisors.hypervisor import CONSOLE_LOG, PID_FILE

if TYPE_CHECKING:
    from core_infra.vm._hypervisors.hypervisor import PersistentSpec

TERMINAL = "console.tty"
"""A link to the terminal that is the serial line, in a machine's directory."""

_FIRST_SLOT = 4


class HyperkitHypervisor:
    """Hyperkit, which boots a kernel on the CPU's own virtualisation and has no monitor."""

    name = "hyperkit"
    has_monitor = False

    def available(self) -> bool:
        """Whether this is a Mac with the program on PATH."""
        return sys.platform == "darwin" and shutil.which("hyperkit") is not None

    def version(self) -> str:
        """Its version, such as "0.20210107"."""
        done = subprocess.run(
            [self._program(), "-v"], capture_output=True, text=True, timeout=60, check=False
        )
        match = re.search(r"hyperkit: v?(\S+)", done.stdout + done.stderr)
        return match[1] if match else "unknown"

    def build(self, spec: PersistentSpec, accelerator: str) -> list[str]:
        """The command that runs *spec*; see the protocol for the arguments."""
        del accelerator  # it has one
        self._check(spec)
        image = spec.image
        assert image is not None  # noqa: S101 - checked above
        log, terminal = spec.directory / CONSOLE_LOG, spec.directory / TERMINAL
        slots = [
            part
            for number, disk in enumerate(spec.disks)
            for part in (
                "-s",
                f"{_FIRST_SLOT + number},{'ahci-cd' if disk.disc else 'virtio-blk'},{disk.path}",
            )
        ]
        return [
            self._program(),
            *("-A", "-u", "-F", str(spec.directory / PID_FILE)),
            *("-c", str(spec.cpus), "-m", f"{spec.memory}M"),
            *("-s", "0:0,hostbridge", "-s", "31,lpc"),
            *("-s", "3,virtio-rnd"),
            *slots,
            *("-l", f"com1,autopty={terminal},log={log}"),
            *("-f", f"kexec,{image.kernel},{image.initrd or ''},{image.cmdline}"),
        ]

    def _check(self, spec: PersistentSpec) -> None:
        why = ""
        if spec.image is None:
            why = "it boots no disks"
        elif spec.arch != "x86_64":
            why = f"it runs no guests for {spec.arch}"
        elif spec.shares:
            why = "it shares no directories"
        elif bad := next((d.format for d in spec.disks if d.format not in ("raw", "iso")), None):
            why = f"it reads no {bad}"
        elif "," in f"{spec.directory}{spec.image.kernel}{spec.image.initrd}":
            why = "a path has a comma in it, which separates its arguments"
        if why:
            raise InvalidError(
                f"hyperkit cannot run {spec.name}", why=why, todo="Use QEMU: --hypervisor qemu"
            )

    def _program(self) -> str:
        found = shutil.which("hyperkit")
        if found is None:
            raise UnavailableError(
                "cannot run a machine: hyperkit is not on PATH",
                why="it is not installed",
                todo="Install QEMU, which does more: brew install qemu",
            )
        return found
