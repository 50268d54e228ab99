"""Faults of a machine's hardware: what the guest sees of each, and that nothing remains of it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from core_infra._unpatched import time
from core_infra.errors import InvalidError, NotFoundError, WrongStateError
from core_infra.vm import (
    GuestCommandTimeoutError,
    Launcher,
    Machine,
    MachineStateError,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READ = "dd if=/dev/vdb bs=4096 count=1 skip={} iflag=direct of=/dev/null"
WRITE = "dd of=/dev/vdb bs=4096 count=1 seek={} oflag=direct if=/dev/zero"
BYTES = "dd if=/dev/vdb bs=4096 count=1 iflag=direct 2>/dev/null | head -c 4 | od -An -tx1"


@pytest.fixture(scope="module")
def machine(launcher: Launcher) -> Iterator[Machine]:
    machine = launcher.clone(disks=["16M", "16M"])
    yield machine
    launcher.discard(machine)


def can(machine: Machine, command: str, block: int = 0) -> bool:
    result = machine.exec(command.format(block))
    assert result.exit_code == 0 or "Input/output error" in result.stderr
    return result.exit_code == 0


def ahead(machine: Machine) -> float:
    """Seconds by which the guest's clock is ahead of the host's."""
    return int(machine.exec("date +%s", check=True).stdout) - time.time()


def test_requests_of_a_disk_fail_as_long_as_the_block_lasts(machine: Machine) -> None:
    disk = machine.disk("vdb")
    with disk.fail(read=errno.EIO, at=2 * 4096 + 100):
        assert can(machine, READ, 1)
        assert not can(machine, READ, 2)
        assert can(machine, WRITE, 2)
        assert machine.active_faults() == ["disk vdb fails: read=EIO at 8292"]
    assert can(machine, READ, 2)
    with disk.fail(write=errno.EIO):
        assert can(machine, READ)
        assert not can(machine, WRITE)
    with disk.fail(flush=errno.EIO):
        assert can(machine, WRITE)
        assert not can(machine, "dd of=/dev/vdb bs=4096 count=1 if=/dev/zero conv=fsync")
    with disk.full(), disk.fail(read=errno.EIO, at=range(4096, 8192)):
        assert can(machine, READ)
        assert not can(machine, READ, 1)
        assert not can(machine, WRITE)
    assert can(machine, READ, 1)
    assert can(machine, WRITE)
    assert machine.active_faults() == []


def test_corrupted_bytes_that_overlap_are_right_again_in_any_order(machine: Machine) -> None:
    disk = machine.disk("vdb")
    show = "dd if=/dev/vdb iflag=direct bs=4096 count=1 2>/dev/null | head -c 4 | xxd -p"
    machine.exec("printf '\\0\\0\\0\\0' | dd of=/dev/vdb bs=4096 conv=sync,fsync", check=True)
    first, second = disk.corrupt(0, 3), disk.corrupt(1, 3)
    assert machine.exec(show).stdout == "ff0000ff\n"
    first.heal()
    assert machine.exec(show).stdout == "00ffffff\n"
    second.heal()
    assert machine.exec(show).stdout == "00000000\n"


def test_a_slow_disk_takes_its_time_and_has_its_content(machine: Machine) -> None:
    machine.exec("printf core | dd of=/dev/vdb bs=4096 conv=sync,fsync", check=True)
    disk = machine.disk("/dev/vdb")
    with disk.slow(latency=0.3), disk.fail(read=errno.EIO, at=4096):
        result = machine.exec(READ.format(2), check=True)
        assert result.duration >= 0.3
        assert not can(machine, READ, 1)
        assert machine.exec("head -c 4 /dev/vdb", check=True).stdout == "core"
        with disk.corrupt(0):
            assert machine.exec(BYTES).stdout.split() == ["9c", "6f", "72", "65"]
    assert can(machine, READ, 1)
    with disk.corrupt(1, 2):
        assert machine.exec(BYTES).stdout.split() == ["63", "90", "8d", "65"]
        machine.exec("printf x | dd of=/dev/vdb bs=1 seek=1 conv=notrunc,fsync", check=True)
    assert machine.exec(BYTES).stdout.split() == ["63", "78", "72", "65"]


def test_the_clock_jumps_and_runs_wrong(machine: Machine) -> None:
    near = pytest.approx(0, abs=30)
    with machine.clock.jump(+3600):
        assert ahead(machine) - 3600 == near
        with machine.clock.jump(-7200):
            assert ahead(machine) + 3600 == near
        assert ahead(machine) - 3600 == near
    assert ahead(machine) == near
    rate = "adjtimex | grep -E 'tick|frequency'"
    right = machine.exec(rate, check=True).stdout
    with machine.clock.skew(1.01):
        assert "10100" in machine.exec(rate, check=True).stdout
        with machine.clock.skew(1.1), machine.clock.skew(1.1):
            assert "11000" in machine.exec(rate, check=True).stdout, "Linux can do no more"
    assert machine.exec(rate, check=True).stdout == right


def test_a_machine_stands_still_lacks_memory_or_has_a_stuck_processor(machine: Machine) -> None:
    with machine.pause():
        assert machine.status is Status.PAUSED
        with pytest.raises(GuestCommandTimeoutError):
            machine.exec("true", timeout=0.2)
        for call in (
            lambda: machine.snapshot("paused"),
            lambda: machine.clock.jump(5),
            machine.memory.pressure,
            machine.cpu.stuck,
            machine.reboot,
            machine.reset,
            machine.power_off,
        ):
            with pytest.raises(MachineStateError, match="it is paused"):
                call()
    assert machine.active_faults() == []
    machine.pause()
    machine.resume()
    machine.resume()
    machine.exec("true", check=True)
    first, second = machine.pause(), machine.pause()
    first.heal()
    assert machine.status is Status.PAUSED, "the second pause has not ended"
    second.heal()
    machine.exec("true", check=True)
    jumped = machine.clock.jump(3600)
    with machine.pause(), pytest.raises(MachineStateError, match=r"cannot end a fault.*is paused"):
        jumped.heal()
    assert abs(ahead(machine) - 3600) < 60
    with jumped:
        pass
    with pytest.raises(WrongStateError, match="has ended before its block"), jumped:
        pass
    available = "awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo"
    with machine.memory.pressure(free=24):
        with machine.memory.pressure(free=48):
            pass
        assert int(machine.exec(available, check=True).stdout) < 32
    assert int(machine.exec(available, check=True).stdout) > 64
    with machine.cpu.stuck():
        busy = machine.exec("ps -o args | grep -c '[d]o :; done'").stdout
        assert int(busy) >= 1
    assert machine.exec("ps -o args | grep -c '[d]o :; done'").stdout.strip() == "0"


def test_a_fault_outlives_a_revert_and_a_power_cut_and_not_its_end(machine: Machine) -> None:
    failing = machine.disk("vdb").fail(read=errno.EIO)
    jumped = machine.clock.jump(3600)
    machine.snapshot("faulty")
    jumped.heal()
    failing.heal()
    machine.revert("faulty")
    assert can(machine, READ), "the fault has ended"
    assert abs(ahead(machine)) < 60
    failing = machine.disk("vdb").fail(read=errno.EIO)
    machine.revert()
    assert not can(machine, READ)
    machine.pause()
    machine.power_cut()
    for call in (machine.pause, lambda: machine.disk("vdb"), lambda: machine.clock.jump(1)):
        with pytest.raises(MachineStateError, match="is off"):
            call()
    assert machine.active_faults() == ["disk vdb fails: read=EIO"]
    machine.power_on()
    assert not can(machine, READ)
    failing.heal()
    failing.heal()
    assert can(machine, READ)


def test_what_cannot_be_a_fault_is_one_error(machine: Machine) -> None:
    with pytest.raises(NotFoundError, match="no disk 'vdc': it has vda, vdb"):
        machine.disk("vdc")
    disk = machine.disk("vdb")
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: disk.fail(read="EIO"), "read='EIO'"),  # type: ignore[arg-type]  # as users may
        (lambda: disk.fail(read=errno.EIO, at=1 << 40), "no byte"),
        (lambda: disk.fail(flush=errno.EIO, at=0), "flushes at a place"),
        (lambda: disk.slow(latency=0), "latency=0"),
        (lambda: disk.corrupt(-1), "no byte -1"),
        (lambda: machine.clock.skew(2), "the rate 2"),
        (lambda: machine.clock.jump(float("nan")), "by nan"),
        (lambda: machine.memory.pressure(free=-1), "-1 MiB"),
        (lambda: machine.cpu.stuck(7), "no processor 7"),
    ]
    for wrong_call, message in wrong:
        with pytest.raises(InvalidError, match=message):
            wrong_call()
    assert machine.active_faults() == []


def test_a_snapshot_leaves_a_wrong_clock_wrong(machine: Machine) -> None:
    with machine.clock.jump(+86400):
        machine.snapshot("wrong")
        assert int(machine.exec("date +%s").stdout) - time.time() > 80000
    machine.snapshot("right")
    assert abs(int(machine.exec("date +%s").stdout) - time.time()) < 80000
