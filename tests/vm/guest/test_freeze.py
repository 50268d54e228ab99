"""FREEZE and THAW in a real machine: nobody else runs, and nobody can tell afterwards."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_infra.vm import GuestOperationError, Machine
from core_infra.vm._guest.protocol import FrameType, ProtocolError
from core_infra.vm._guest.results import raise_failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._guest.process import GuestProcess

GROUPS = "/sys/fs/cgroup"
COUNT = "echo go; while :; do echo >>/tmp/count; done"
# Those of the root group that are in user mode: the kernel's threads have no program.
OTHERS = f"""
for pid in $(cat {GROUPS}/cgroup.procs); do
    program=$(readlink /proc/$pid/exe) && [ $pid != 1 ] && [ $pid != $$ ] &&
        [ $program != /usr/bin/core-infra-agent ] && echo $pid $program
done; true
"""


@pytest.fixture
def counter(machine: Machine) -> Iterator[GuestProcess]:
    """A command that is busy counting."""
    with machine.stream(COUNT) as process:
        assert next(process.chunks())
        yield process
        machine._agent().thaw()


LOOK = "wc -c </tmp/count"


def goes_on(machine: Machine) -> bool:
    """Whether it counts on; waits until it does."""
    return machine.exec(f"was=$({LOOK}); until [ $({LOOK}) != $was ]; do :; done").exit_code == 0


def stands_still(machine: Machine) -> bool:
    """Whether it has not counted while the guest did much else."""
    script = f"was=$({LOOK}); for i in $(seq 10); do (:); done; sleep 0.05; [ $({LOOK}) = $was ]"
    return machine.exec(script).exit_code == 0


@pytest.mark.usefixtures("counter")
def test_a_busy_loop_stands_still_until_thaw(machine: Machine) -> None:
    assert goes_on(machine)
    machine._agent().freeze()
    assert stands_still(machine)
    machine._agent().thaw()
    assert goes_on(machine)


def test_the_session_goes_on_and_its_commands_too(machine: Machine) -> None:
    with machine.stream("while read line; do echo got $line; done") as process:
        machine._agent().freeze()
        process.send_input("while frozen\n")
        assert machine.exec("echo another").stdout == "another\n"
        machine._agent().thaw()
        assert next(iter(process)) == "got while frozen"
        process.close_stdin()
        assert process.wait(60) == 0


@pytest.mark.parametrize("times", range(3))
def test_processes_that_fork_meanwhile_are_caught(machine: Machine, times: int) -> None:
    forks = f"echo {times}; while :; do (:) & (cat </dev/null); wait; done"
    with machine.stream(forks) as one, machine.stream(forks, user="nobody") as two:
        assert next(one.chunks())
        assert next(two.chunks())
        machine._agent().freeze()
        assert machine.exec(OTHERS).stdout == ""
        machine._agent().thaw()
        for process in (one, two):
            process.kill()
            assert process.wait(60) < 0


@pytest.mark.usefixtures("counter")
def test_a_second_freeze_takes_what_was_started_since(machine: Machine) -> None:
    machine._agent().freeze()
    with machine.stream(f"echo $$; {COUNT}") as late:
        assert next(late.chunks())
        assert goes_on(machine)
        machine._agent().freeze()
        assert stands_still(machine)
    machine._agent().thaw()
    assert goes_on(machine)


def test_other_groups_stand_still_and_one_frozen_by_its_owner_stays_so(machine: Machine) -> None:
    script = f"mkdir -p {GROUPS}/$0/inner && echo $$ >{GROUPS}/$0/inner/cgroup.procs && {COUNT}"
    with machine.stream(["sh", "-c", script, "busy"]) as busy:
        assert next(busy.chunks())
        machine.exec(f"mkdir {GROUPS}/held && echo 1 >{GROUPS}/held/cgroup.freeze", check=True)
        machine._agent().freeze()
        assert stands_still(machine)
        machine._agent().thaw()
        assert goes_on(machine)
        states = machine.exec(f"cat {GROUPS}/held/cgroup.freeze {GROUPS}/busy/cgroup.freeze")
        assert states.stdout.split() == ["1", "0"]
        busy.kill()
        busy.wait(60)
    script = f"cd {GROUPS}; until rmdir held busy/inner busy; do :; done"
    machine.exec(script, check=True)


@pytest.mark.usefixtures("counter")
def test_what_cannot_be_frozen_is_told_and_all_go_on(machine: Machine) -> None:
    machine.exec(f"cd {GROUPS}; for i in $(seq 70); do mkdir many$i; done", check=True)
    try:
        with pytest.raises(GuestOperationError, match="cannot freeze the other processes"):
            machine._agent().freeze()
        assert goes_on(machine)
    finally:
        machine.exec(f"rmdir {GROUPS}/many*", check=True)
    machine._agent().freeze()
    assert stands_still(machine)


@pytest.mark.usefixtures("counter")
def test_a_group_that_is_removed_while_frozen_does_not_disturb(machine: Machine) -> None:
    machine.exec(f"mkdir {GROUPS}/short", check=True)
    machine._agent().freeze()
    machine.exec(f"rmdir {GROUPS}/short", check=True)
    machine._agent().freeze()
    machine._agent().thaw()
    assert goes_on(machine)


def test_thaw_gives_an_identity_with_or_without_freeze(machine: Machine) -> None:
    for number in range(2):
        name, identity, mac = f"vm-{number}", f"{number:032x}", bytes([2, 0, 0, 0, 0, number])
        if number:
            machine._agent().freeze()
        machine._agent().thaw(hostname=name, machine_id=identity, mac=mac)
        assert machine.exec("hostname; cat /etc/hostname /etc/machine-id").stdout.split() == [
            *(name, name, identity)
        ]
        address = machine.exec("cat /sys/class/net/eth0/address", check=True).stdout
        assert address == f"02:00:00:00:00:0{number}\n"
    machine._agent().thaw()
    assert machine.exec("hostname").stdout == "vm-1\n"
    machine.exec("ping -c1 10.0.2.2", check=True)


def test_an_identity_that_cannot_be_told_fails_and_nobody_goes_on(machine: Machine) -> None:
    with machine.stream(COUNT) as process:
        assert next(process.chunks())
        machine._agent().freeze()
        machine.exec("mv /etc/machine-id /etc/kept; mkdir /etc/machine-id", check=True)
        with pytest.raises(GuestOperationError, match="/etc/machine-id"):
            machine._agent().thaw(machine_id="0" * 32)
        assert stands_still(machine)
        machine.exec("rmdir /etc/machine-id; mv /etc/kept /etc/machine-id", check=True)
        for name, identity in (("x" * 65, ""), ("", "y" * 65)):
            with pytest.raises(GuestOperationError, match="too long"):
                machine._agent().thaw(hostname=name, machine_id=identity)
        machine._agent().thaw(machine_id="0" * 32)
        assert goes_on(machine)


def test_resume_greets_and_thaws_in_one_go(machine: Machine) -> None:
    machine._agent().freeze()
    former = machine._agent().hello(60)
    machine._agent().set_clock(10**18)
    resumed = machine._agent().resume(hostname="resumed", timeout=60)
    assert resumed.ack.info["former"] == former.nonce.hex()
    assert resumed.ack.info["boot_id"] == former.info["boot_id"]
    assert resumed.ack.info["random"] != former.info["random"]
    assert resumed.sent_ns <= int(resumed.ack.info["clock"]) <= resumed.received_ns
    assert resumed.clock_error_ns <= resumed.received_ns - resumed.sent_ns
    assert machine.exec("hostname").stdout == "resumed\n"
    assert abs(int(machine.exec("date +%s").stdout) - time.time()) < 60


def test_left_over_processes_survive_freeze_hello_and_thaw(machine: Machine) -> None:
    machine.exec(f"(exec >/dev/null 2>&1; {COUNT}) & echo $! >/tmp/left", check=True)
    machine._agent().freeze()
    machine._agent().hello(60)
    assert stands_still(machine)
    machine._agent().resume(timeout=60)
    assert goes_on(machine)
    machine.exec("kill $(cat /tmp/left)", check=True)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from([FrameType.FREEZE, FrameType.THAW]),
    payload=st.one_of(
        st.just(b""),
        st.binary(max_size=200),
        st.builds(
            lambda name, rest: struct.pack("<I", len(name)) + name + rest,
            st.binary(max_size=70),
            st.binary(max_size=20),
        ),
    ),
)
def test_no_payload_harms_the_guest(machine: Machine, kind: FrameType, payload: bytes) -> None:
    channel = machine._agent()._open(kind, payload)
    try:
        raise_failure(channel.result(time.monotonic() + 60), "x")
    except (GuestOperationError, ProtocolError):
        machine._agent().hello(60)
    machine._agent().thaw()
    assert machine.exec("echo fine").stdout == "fine\n"
