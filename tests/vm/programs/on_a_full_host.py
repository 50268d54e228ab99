"""Run by test_io_pause.py in a mount namespace: machines whose files are on a small file system.

on_a_full_host.py DIRECTORY: where it may be mounted. Prints what it has come to.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core_infra.process._child import spawn
from core_infra.vm import Launcher, Machine, MachinePausedError, Status
from core_infra.vm._access.agent import AgentAccess
from core_infra.vm._cache import cache_root
from core_infra.vm._disks import as_disks, layers
from core_infra.vm._free_space import HostFullError, free
from core_infra.vm._hypervisors.hypervisor import PersistentSpec
from core_infra.vm._hypervisors.qemu import QemuHypervisor
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.image import host_arch
from core_infra.vm._manager.machine_directory import MachineDirectory
from core_infra.vm._manager.pause import PauseWatch, resume_if_possible
from core_infra.vm._manager.record import Container
from core_infra.vm._manager.stop import monitor

if TYPE_CHECKING:
    from collections.abc import Callable

FILL = "dd if=/dev/zero of=/dev/vda bs=1M count=24 conv=fsync && echo written"


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wastes(directory: Path, leave: int) -> Path:
    """A file that takes all room but so many bytes."""
    path = directory / "waste"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free(directory) - leave)
    return path


def goes_on_when_there_is_room(machine: Machine, small: Path, told: list[str]) -> None:
    waste = wastes(small, 8 << 20)
    outputs: list[str] = []
    command = threading.Thread(target=lambda: outputs.append(machine.exec(FILL).stdout))
    command.start()
    until(lambda: machine.status is Status.PAUSED)
    said = str(machine.pause_reason)
    assert said.startswith("machine vm1 is paused: this host cannot write its disk disk0.qcow2")
    assert "No space left on device" in said
    waste.unlink()
    command.join()
    assert outputs == ["written\n"], "the command that ran has noticed nothing"
    until(lambda: machine.status is Status.RUNNING)
    assert machine.pause_reason is None
    assert machine.exec("cmp -n 20000000 /dev/vda /dev/zero").exit_code == 0
    assert "is paused" in told[-2]
    assert "resumes" in told[-1]


def says_so_at_once(machine: Machine, small: Path) -> None:
    machine.revert()  # what it has written before takes no more room
    waste = wastes(small, 4 << 20)
    started = time.monotonic()
    for command in (FILL, "echo alive"):
        with pytest.raises(MachinePausedError, match=r"\(tmpfs\) has [0-3] MiB free of 64 MiB"):
            machine.exec(command, timeout=600)
    with pytest.raises(MachinePausedError):
        asyncio.run(machine.aio.exec("echo alive", timeout=600))
    assert time.monotonic() - started < 300, "it did not wait for the command's time to be up"
    waste.unlink()
    assert machine.exec("echo alive", timeout=60).stdout == "alive\n"
    machine.revert()
    assert machine.exec("echo alive").stdout == "alive\n"


def the_console_loses_nothing(machine: Machine, small: Path) -> None:
    waste = wastes(small, 0)
    machine.exec("for i in $(seq 3000); do echo line $i of many; done >/dev/ttyS0", check=True)
    until(lambda: "line 3000 of many" in machine.logs())
    waste.unlink()
    machine.exec("echo the last line >/dev/ttyS0", check=True)
    until(lambda: "the last line" in (machine.directory / "console.log").read_text())
    log = (machine.directory / "console.log").read_text()
    assert all(f"line {i} of many" in log for i in range(1, 3001))


def cannot_be_started(launcher: Launcher, small: Path) -> None:
    waste = wastes(small, 0)
    with pytest.raises(HostFullError, match="cannot write"):
        launcher.clone(disks=["64M"])
    waste.unlink()
    launcher.discard(launcher.clone(disks=["64M"]))
    assert launcher.leaks() == []


def a_machine_that_stays(small: Path) -> None:
    folder = MachineDirectory(small / "stays")
    folder.make()
    lines = {name: folder.listen(name) for name in ("monitor", "console", "agent")}
    [disk] = layers(as_disks(["64M"]), folder.path)
    spec = PersistentSpec(
        name="stays",
        directory=folder.path,
        arch=host_arch(),
        memory=128,
        cpus=1,
        image=default_image(host_arch(), cache_dir=cache_root()),
        disks=[disk],
        sockets={name: line.fileno() for name, line in lines.items()},
        mac="52:54:00:00:00:01",
    )
    child = spawn(QemuHypervisor().build(spec, "tcg"), pass_fds=list(spec.sockets.values()))
    container = Container(id="0" * 8, name="stays", image="default")
    monitor(folder, "cont")
    access = AgentAccess([folder.socket_path("agent")], boot=120, patience=120)
    waste, told = wastes(small, 4 << 20), list[str]()
    assert resume_if_possible(container, folder) is None
    with PauseWatch(container, folder, told.append):
        outputs: list[str] = []
        command = threading.Thread(target=lambda: outputs.append(access.exec(FILL).stdout))
        command.start()
        until(lambda: bool(told))
        assert isinstance(resume_if_possible(container, folder), MachinePausedError)
        waste.unlink()
        command.join()
        until(lambda: len(told) == len(["it is paused", "it resumes"]))
    assert outputs == ["written\n"]
    assert "machine stays is paused" in told[0]
    # Not always 0: a request for more than there is takes nothing, as fallocate on tmpfs.
    assert re.search(r"\(tmpfs\) has [0-3] MiB free of 64 MiB", told[0]), told
    assert resume_if_possible(container, folder) is None
    access.close()
    child.kill()


def main() -> None:
    small = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=True)
    tempfile.tempdir = str(small)
    told: list[str] = []
    if sys.argv[2:] == ["stays"]:
        a_machine_that_stays(small)
        return
    with Launcher(accelerator="tcg", memory=128, ready=0, progress=told.append) as launcher:
        machine = launcher.clone(disks=["64M"])
        goes_on_when_there_is_room(machine, small, told)
        says_so_at_once(machine, small)
        the_console_loses_nothing(machine, small)
        cannot_be_started(launcher, small)


if __name__ == "__main__":
    main()
