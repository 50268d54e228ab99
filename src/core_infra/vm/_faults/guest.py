"""Faults that programs in the guest make: too little memory, a processor that is stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._faults.registry import Combined
from core_infra.vm._guest.command import start_command
from core_infra.vm._guest.guest import Guest
from core_infra.vm._guest.waiting import OWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._faults.registry import MachineFault, MachineFaults
    from core_infra.vm._guest.command import RunningCommand
    from core_infra.vm._vmm_process import VmmProcess

_PLACE = "/run/core-infra-pressure"
# Pages of a tmpfs are memory that the kernel can neither drop nor, without swap, write elsewhere.
_FILL = f"""\
while read name kib unit; do [ "$name" = MemAvailable: ] && break; done </proc/meminfo
fill=$((kib / 1024 - $0))
[ $fill -gt 0 ] || exit 0
mkdir -p {_PLACE} && mount -t tmpfs -o size=100% none {_PLACE} &&
    dd if=/dev/zero of={_PLACE}/fill bs=1048576 count=$fill 2>/dev/null
"""
_RELEASE = f"[ ! -e {_PLACE} ] || {{ umount {_PLACE} && rmdir {_PLACE}; }}"
# Linux may divide the time between sessions first, by a priority of their own.
_BUSY = "echo -20 >/proc/self/autogroup; renice -n -20 $$; while :; do :; done"
_PROGRAM = "command -v taskset"


class Pressure(Combined):
    """Memory that nobody else in the guest can use; of several, the one that leaves least counts.

    Args:
        faults: all faults of the machine.
        free: MiB that remain available.
    """

    needs_guest = True

    def __init__(self, faults: MachineFaults, free: int) -> None:
        super().__init__(faults)
        self.free = free

    def apply(self, process: VmmProcess, active: Sequence[Pressure]) -> None:
        """Release the memory, and fill it again."""
        guest = Guest(lambda: process.agent)
        guest.exec(["/bin/sh", "-c", _RELEASE], **OWN)
        if active:
            free = min(each.free for each in active)
            guest.exec(["/bin/sh", "-c", _FILL, str(free)], check=True, **OWN)


class Stuck:
    """A program of the highest priority that does not leave a processor."""

    survives = True
    needs_guest = True
    stops = False

    def __init__(self, cpu: int) -> None:
        self._cpu = cpu
        self._running: RunningCommand | None = None

    def begin(self, process: VmmProcess) -> None:
        """Start the program."""
        guest = Guest(lambda: process.agent)
        guest.exec(_PROGRAM, check=True, **OWN)
        command = ["taskset", f"{1 << self._cpu:x}", "/bin/sh", "-c", _BUSY]
        self._running = start_command(
            process.agent, command, **OWN, cwd="/", timeout=None, no_input=True
        )

    def end(self, process: VmmProcess) -> None:  # noqa: ARG002 - it is a command of that process
        """Kill it."""
        if self._running is not None:
            self._running.end()


class Paused(Combined):
    """A machine that stands still until the last pause has ended."""

    survives = False
    stops = True

    def apply(self, process: VmmProcess, active: Sequence[Paused]) -> None:
        """Stop its processors, or let them continue."""
        process.stands_still = bool(active)
        process.qmp.execute("stop" if active else "cont")


_MOST_FREE = 1 << 20
"""MiB. The guest's shell counts in KiB, and no machine has as much."""


class MachineMemory:
    """The memory of a machine, for ``machine.memory``."""

    def __init__(self, faults: MachineFaults) -> None:
        self._faults = faults

    def pressure(self, *, free: int = 16) -> MachineFault:
        """Leave the guest no more than *free* MiB of memory available.

        Raises:
            InvalidError: *free* is not a number of MiB.
            MachineStateError: the machine does not run.
        """
        given: object = free
        if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= _MOST_FREE:
            raise InvalidError(
                f"cannot leave {free!r} MiB", why=f"it is a whole number, 0 to {_MOST_FREE}"
            )
        return self._faults.begin(
            f"memory: at most {free} MiB available", Pressure(self._faults, free)
        )


class MachineProcessors:
    """The processors of a machine, for ``machine.cpu``."""

    def __init__(self, faults: MachineFaults, number: int) -> None:
        self._faults = faults
        self._number = number

    def stuck(self, cpu: int = 0) -> MachineFault:
        """Keep a processor of the guest busy: all else there gets a hundredth of its time.

        Raises:
            InvalidError: the machine has no such processor.
            GuestCommandError: the guest has no ``taskset``.
            MachineStateError: the machine does not run.
        """
        given: object = cpu
        if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < self._number:
            raise InvalidError(
                f"the machine has no processor {cpu!r}",
                why=f"it has {self._number}, numbered from 0",
            )
        return self._faults.begin(f"cpu {cpu}: stuck", Stuck(cpu))
