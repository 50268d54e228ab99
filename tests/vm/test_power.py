"""The power of a machine: what survives a restart, and what a cut of the power takes away."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, TimeoutExpiredError
from core_infra.vm import GuestGoneError, Launcher, Machine, MachineStateError, Status
from core_infra.vm._images.qemu_img import qemu_img

if TYPE_CHECKING:
    from collections.abc import Iterator

BOOT_ID = "/proc/sys/kernel/random/boot_id"
IDENTITY = "hostname; cat /etc/machine-id /sys/class/net/eth0/address"
WRITE = "echo {text} | dd of=/dev/vda bs=4096 seek={block} conv=sync {how} 2>/dev/null"
READ = "dd if=/dev/vda bs=4096 skip={block} count=1 iflag=direct 2>/dev/null | head -c 12"


@pytest.fixture(scope="module")
def disk_machine(launcher: Launcher) -> Iterator[Machine]:
    machine = launcher.clone(disks=["16M"])
    yield machine
    launcher.discard(machine)


@pytest.fixture
def machine(disk_machine: Machine) -> Machine:
    """A machine with an empty disk, as it was at first."""
    disk_machine.revert()
    return disk_machine


def write(machine: Machine, block: int, text: str, *, flush: bool) -> None:
    how = "conv=fsync,sync" if flush else "oflag=direct"
    machine.exec(WRITE.format(text=text, block=block, how=how), check=True)


def read(machine: Machine, block: int) -> str:
    return machine.exec(READ.format(block=block), check=True).stdout.rstrip("\n\0")


def test_a_power_cut_takes_what_was_not_flushed(machine: Machine) -> None:
    port, identity = machine.port(8080), machine.exec(IDENTITY, check=True).stdout
    write(machine, 0, "flushed", flush=True)
    write(machine, 1, "old", flush=True)
    write(machine, 1, "new", flush=False)
    write(machine, 2, "lost", flush=False)
    machine.write_text("/root/memory", "lost")
    assert [read(machine, block) for block in range(3)] == ["flushed", "new", "lost"]
    machine.power_cut()
    assert machine.status is Status.OFF
    with pytest.raises(MachineStateError, match=r"is off[^$]*power_on\(\)"):
        machine.exec("true")
    with pytest.raises(MachineStateError, match="is off"):
        machine.power_cut()
    machine.power_on()
    assert [read(machine, block) for block in range(3)] == ["flushed", "old", ""]
    assert machine.exec("test -e /root/memory").exit_code == 1
    assert machine.exec(IDENTITY, check=True).stdout == identity
    assert machine.port(8080) == port
    machine.exec("echo hello | nc -l -p 8080 >/dev/null &")
    machine.wait_for_port(8080)
    with pytest.raises(MachineStateError, match="is running"):
        machine.power_on()
    assert "powered on" in machine.logs()


def test_a_reset_and_a_reboot_keep_what_disks_have_and_a_shutdown_flushes_it(
    machine: Machine,
) -> None:
    was = machine.read_text(BOOT_ID)
    machine.write_text("/root/memory", "lost")
    write(machine, 0, "written", flush=False)
    machine.reset()
    assert machine.read_text(BOOT_ID) != was
    assert machine.exec("test -e /root/memory").exit_code == 1
    assert read(machine, 0) == "written", "the cache of a disk has its own power"
    was = machine.read_text(BOOT_ID)
    machine.reboot()
    assert machine.read_text(BOOT_ID) != was
    assert machine.guest_info["boot_id"] == machine.read_text(BOOT_ID).strip()
    write(machine, 1, "written", flush=False)
    machine.power_off()
    machine.revert()
    assert machine.status is Status.RUNNING, "what a snapshot is of has power"
    assert read(machine, 1) == ""


def test_a_power_cut_waits_for_the_worst_moment(machine: Machine) -> None:
    with machine.stream("echo step 7 >/dev/console; sleep 600") as running:
        machine.power_cut(until=re.compile(r"^step \d", re.MULTILINE))
        with pytest.raises(GuestGoneError, match="its power was cut"):
            running.wait()
    machine.revert()
    with pytest.raises(TimeoutExpiredError, match=r"waited .*'step 8' did not come"):
        machine.power_cut(until="step 8", timeout=0.1)
    assert machine.exec("true").exit_code == 0, "it still runs"
    moment = threading.Event()
    threading.Timer(0.1, moment.set).start()
    machine.power_cut(until=moment)
    assert machine.status is Status.OFF
    machine.revert()
    with pytest.raises(InvalidError, match="cannot cut the power at 7"):
        machine.power_cut(until=7)  # type: ignore[arg-type]  # as users may
    asyncio.run(machine.aio.power_cut())
    assert machine.status is Status.OFF


def test_each_of_many_power_cuts_leaves_exactly_what_was_flushed(machine: Machine) -> None:
    """The disk is read on the host, which takes less time than a boot."""
    cut_and_compare(machine, 20)


@pytest.mark.soak
def test_a_thousand_power_cuts_leave_exactly_what_was_flushed(machine: Machine) -> None:
    cut_and_compare(machine, 1000)


WRITER = """
i=0
while :; do
    i=$((i + 1))
    echo "line $i" | dd of=/dev/vda bs=4096 seek=$((i % 64)) conv=sync{fsync} 2>/dev/null
    echo "acknowledged $i" >/dev/console
done
"""


def cut_and_compare(machine: Machine, times: int) -> None:
    lost = 0
    for number in range(times):
        flushes = number % 2 == 0
        last = 3 + number % 7
        fsync = ",fsync" if flushes else ",notrunc oflag=direct"
        with machine.stream(WRITER.format(fsync=fsync)):
            machine.power_cut(until=f"acknowledged {last}")
        printed = machine.logs().rpartition("reverted")[2]
        said = [int(n) for n in re.findall(r"acknowledged (\d+)", printed)]
        layer = machine.directory / "disk0.qcow2"
        raw = machine.directory / "disk0.raw"
        qemu_img(layer, "convert", "-f", "qcow2", "-O", "raw", str(layer), str(raw))
        content = raw.read_bytes()
        found = [content[i * 4096 :][:12].partition(b"\n")[0] for i in range(1, max(said) + 1)]
        missing = [i for i, text in enumerate(found, 1) if text != b"line %d" % i]
        if flushes:
            assert not missing, f"acknowledged and lost, after {number} cuts"
        lost += len(missing)
        machine.revert()
    assert lost, "what is not flushed is lost"


def test_a_machine_is_on_its_networks_again_when_it_has_power_again(launcher: Launcher) -> None:
    network = launcher.network()
    first = launcher.clone(name="first", networks=[network])
    second = launcher.clone(name="second", networks=[network])
    first.power_cut()
    assert second.exec("ping -c 1 -W 1 first").exit_code != 0
    first.power_on()
    first.exec("ping -c 1 second", check=True)
    second.exec("ping -c 1 first", check=True)
    for machine in (first, second):
        launcher.discard(machine)
