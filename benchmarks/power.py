"""From a power cut to the first output again, against a cold boot, alternately in one run.

Processor time of the hypervisor counts as well as wall time: it varies less on a busy host.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.vm import Launcher

if TYPE_CHECKING:
    from core_infra.vm import Machine

GOAL = 1.1
_TICKS = 100


def processor_seconds(machine: Machine) -> float:
    """What the machine's hypervisor has used since it started."""
    fields = Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def measured(machine: Machine, began: float) -> tuple[float, float]:
    """The wall time since *began* until a machine has run a command, and its processor time."""
    machine.exec("echo hi", check=True)
    return time.monotonic() - began, processor_seconds(machine)


def main(rounds: int) -> None:
    """Measure, and print the medians."""
    cold: list[tuple[float, float]] = []
    cut: list[tuple[float, float]] = []
    with Launcher(ready=0) as launcher:
        machine = launcher.clone(disks=["64M"])
        for _ in range(rounds):
            began = time.monotonic()
            booted = launcher.boot(disks=["64M"])
            cold.append(measured(booted, began))
            launcher.discard(booted)
            began = time.monotonic()
            machine.power_cut()
            machine.power_on()
            cut.append(measured(machine, began))
    for index, what in enumerate(("wall time", "processor time")):
        before, after = (statistics.median(one[index] for one in all_) for all_ in (cold, cut))
        print(f"{what}: cold boot {before:.2f} s, power cut to first output {after:.2f} s")
        print(f"    ratio {after / before:.2f}, goal {GOAL}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
