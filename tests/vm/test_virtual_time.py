"""Machines whose clocks run by the guest's instructions, and skip the time in which it is idle."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pexpect
import pytest

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm import Launcher, Machine


@pytest.fixture(scope="module")
def machine(launcher: Launcher) -> Iterator[Machine]:
    machine = launcher.clone(time="virtual")
    yield machine
    launcher.discard(machine)


def uptime(machine: Machine) -> float:
    return float(machine.exec("cat /proc/uptime", check=True).stdout.split()[0])


def test_an_hour_passes_in_seconds_and_only_when_a_call_waits_for_it(machine: Machine) -> None:
    machine.exec("(sleep 1800; echo half >/tmp/log; sleep 7200; echo late >>/tmp/log) &")
    before = uptime(machine)
    date = int(machine.exec("date +%s").stdout)
    with pytest.raises(pexpect.TIMEOUT):
        machine.console.expect("nothing", timeout=3)  # real time, of which none passes there
    machine.clock.advance(minutes=59, seconds=60)
    assert machine.read_text("/tmp/log") == "half\n", "time passes only while a call waits for it"
    assert uptime(machine) - before >= 3600
    assert int(machine.exec("date +%s").stdout) - date >= 3600


def test_waiting_lets_virtual_time_pass_in_clones_too(machine: Machine) -> None:
    machine.exec("(sleep 60; touch /tmp/ready) >/dev/null 2>&1 &")
    machine.wait_for_file("/tmp/ready")
    machine.exec("echo state >/tmp/state")
    machine.snapshot("here")
    machine.exec("rm /tmp/state")
    machine.revert("here")
    assert machine.read_text("/tmp/state") == "state\n"
    before = uptime(machine)
    machine.exec("sleep 100", check=True)
    assert uptime(machine) - before >= 100


def test_real_and_virtual_time_do_not_mix(launcher: Launcher, machine: Machine) -> None:
    real = launcher.clone()
    with pytest.raises(InvalidError, match="its time is real"):
        real.clock.advance(hours=1)
    launcher.discard(real)
    with pytest.raises(InvalidError, match="its time is virtual"):
        machine.clock.jump(3600)
    with pytest.raises(InvalidError, match="time does not go back"):
        machine.clock.advance(seconds=-1)
    with pytest.raises(InvalidError, match="time='unreal'"):
        launcher.clone(time="unreal")
    with pytest.raises(InvalidError, match="virtual time and 2 cpus"):
        launcher.clone(time="virtual", cpus=2)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a timer of PCs")
def test_no_timer_runs_that_the_guest_has_turned_off(machine: Machine) -> None:
    """QEMU 10 runs an HPET on: 250 wake-ups of an idle machine in each second."""
    sources = machine.read_text(
        "/sys/devices/system/clocksource/clocksource0/available_clocksource"
    )
    assert "hpet" not in sources
    assert "hpet" not in machine.read_text("/proc/timer_list")


def test_a_snapshot_leaves_the_clock_of_the_machine_alone(machine: Machine) -> None:
    machine.clock.advance(hours=1)
    date = int(machine.exec("date +%s").stdout)
    machine.snapshot("clock")
    assert 0 <= int(machine.exec("date +%s").stdout) - date < 1800
