"""Clones of real machines: each its own, each the same at its start, none left behind."""

from __future__ import annotations

import concurrent.futures
import socket
import time
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm import GuestGoneError, Launcher, Machine, Status, _cache
from core_infra.vm._snapshots.resume import CloneVerifier
from support import is_running, wait_gone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IDENTITY = """\
head -c 16 /dev/urandom | od -An -tx1 -v
cat /proc/sys/kernel/random/uuid /etc/machine-id /sys/class/net/eth0/address
head -c 16 /dev/hwrng | od -An -tx1 -v
hostname
"""
# Draws all the time, also at the moment of the snapshot: frozen, it draws nothing until the clone
# has been given entropy of its own.
DRAWER = """\
while :; do head -c 8 /dev/urandom | od -An -tx1; done >/tmp/drawn 2>/dev/null &
"""


def test_each_is_its_own(cloning: Launcher) -> None:
    before = time.time()
    machines = [cloning.clone() for _ in range(3)]
    told = [machine.exec(IDENTITY, check=True).stdout.splitlines() for machine in machines]
    for line in zip(*told, strict=True):
        assert len(set(line)) == 3, line
    assert [lines[-1] for lines in told] == [machine.name for machine in machines]
    for machine in machines:
        clock = float(machine.exec("date +%s").stdout)
        assert before - 1 <= clock <= time.time() + 1
        cloning.discard(machine)
    assert cloning.leaks() == []


def test_programs_have_the_same_addresses_at_each_start(cloning: Launcher) -> None:
    """So QEMU has the translation of a program that ran before, also before the clone was made."""
    with cloning.clone() as machine, cloning.clone() as other:
        stacks = {each.exec("grep stack /proc/self/maps").stdout for each in (machine, other)}
    assert len(stacks) == 1


def test_processes_of_a_snapshot_draw_bytes_of_their_own(cloning: Launcher) -> None:
    def draw(machine: Machine) -> None:
        machine.exec(DRAWER)
        machine.wait_until_succeeds("test -s /tmp/drawn")

    prepared = cloning.prepare(draw)
    drawn = []
    for _ in range(2):
        machine = prepared.clone()
        machine.exec("sleep 0.2")
        drawn.append(machine.read_text("/tmp/drawn").splitlines()[:-1])
        cloning.discard(machine)
    prepared.close()
    common = sum(a == b for a, b in zip(*drawn, strict=False))
    assert common > 0, "what was drawn before the snapshot is in both"
    assert len(drawn[0]) > common
    assert len(drawn[1]) > common
    # Not one byte is drawn in both after it; the lines of both are the same up to there.
    assert not set(drawn[0][common:]) & set(drawn[1][common:])


def test_reverting_brings_back_memory_files_and_processes(cloning: Launcher) -> None:
    machine = cloning.clone()
    machine.exec("echo 1 >/root/a; sleep 1000 & echo $! >/root/pid")
    machine.snapshot("one")
    machine.exec("echo 2 >/root/a; kill $(cat /root/pid)")
    machine.revert("one")
    assert machine.read_text("/root/a") == "1\n"
    assert machine.exec("kill -0 $(cat /root/pid)").exit_code == 0
    machine.revert("one")
    assert machine.read_text("/root/a") == "1\n", "as often as one likes"
    machine.revert()
    assert machine.exec("ls /root").stdout == ""
    assert "reverted to its start" in machine.logs()
    with pytest.raises(NotFoundError, match=r"no snapshot 'two'(?s:.*)'one'"):
        machine.revert("two")
    assert machine.exec("echo still here").stdout == "still here\n"
    cloning.discard(machine)
    assert cloning.leaks() == []


def test_a_machine_goes_on_while_its_snapshot_is_taken(cloning: Launcher) -> None:
    machine = cloning.clone()
    process = machine.stream("for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done")
    lines = iter(process)
    first = next(lines)
    machine.snapshot("meanwhile")
    assert [first, *lines] == ["1", "2", "3", "4", "5", "6"]
    assert abs(time.time() - float(machine.exec("date +%s").stdout)) < 2
    cloning.discard(machine)


def test_what_was_under_way_ends_with_the_revert(cloning: Launcher) -> None:
    machine = cloning.clone()
    process = machine.stream("echo on; sleep 1000")
    lines = iter(process)
    assert next(lines) == "on"
    machine.revert()
    with pytest.raises(GuestGoneError):
        next(lines)
    assert machine.exec("echo on").stdout == "on\n"
    cloning.discard(machine)


def test_a_machine_that_failed_can_be_reverted(cloning: Launcher) -> None:
    machine = cloning.clone()
    pid = machine.pid
    with pytest.raises(GuestGoneError):
        machine.exec("echo c >/proc/sysrq-trigger; sleep 100")
    wait_gone(pid)
    assert machine.status is Status.FAILED
    machine.revert()
    assert machine.exec("echo on").stdout == "on\n"
    cloning.discard(machine)


def test_ports_lead_into_each_machine_and_stay(cloning: Launcher) -> None:
    answers = {}
    machines = [cloning.clone() for _ in range(2)]
    for machine in machines:
        serve = f"while :; do echo {machine.name} | nc -l -p 80; done >/dev/null 2>&1 &"
        machine.exec(serve)
        machine.wait_for_port(80)
        answers[machine.port(80)] = machine.name
        machine.snapshot("serving")
        assert machine.port(80) in answers
    assert {port: ask(port) for port in answers} == answers
    machines[0].revert("serving")
    machines[0].wait_for_port(80)
    assert ask(machines[0].port(80)) == machines[0].name
    assert machines[0].port(80) in answers
    with pytest.raises(InvalidError, match="no port 70000"):
        machines[0].port(70000)
    for machine in machines:
        cloning.discard(machine)
    with pytest.raises(ConnectionRefusedError):
        ask(next(iter(answers)))


def ask(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        return connection.makefile().readline().strip()


def test_many_at_once_from_several_threads(cloning: Launcher) -> None:
    def use(number: int) -> str:
        machine = cloning.clone()
        machine.write_text("/root/n", str(number))
        text = machine.exec("cat /root/n").stdout
        cloning.discard(machine)
        return text

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(12))) == [str(number) for number in range(12)]
    assert cloning.leaks() == []


def test_a_prepared_machine_is_kept_for_later_runs(cloning: Launcher, tmp_path: Path) -> None:
    prepared_at: list[str] = []

    def prepare(machine: Machine) -> None:
        prepared_at.append(machine.name)
        machine.write_text("/srv/seed", "seed")
        machine.exec("sleep 1000 & echo $! >/srv/pid")

    name = f"test {tmp_path}"
    for _ in range(2):
        prepared = cloning.prepare(prepare, cache=name)
        machine = prepared.clone()
        assert machine.read_text("/srv/seed") == "seed"
        assert machine.exec("kill -0 $(cat /srv/pid)").exit_code == 0
        cloning.discard(machine)
        prepared.close()
    assert len(prepared_at) == 1
    assert cloning.leaks() == []


def test_what_is_kept_is_prepared_again_when_code_or_files_change(
    launcher: Launcher, tmp_path: Path
) -> None:
    (tmp_path / "seed").write_text("one")

    def content(prepare: Callable[[Machine], object]) -> str:
        prepared = launcher.prepare(prepare, cache=f"test {tmp_path}", depends=[tmp_path / "seed"])
        machine = prepared.clone()
        try:
            return machine.read_text("/srv/seed")
        finally:
            launcher.discard(machine)
            prepared.close()

    def push(machine: Machine) -> None:
        machine.push(tmp_path / "seed", "/srv/")

    def edited(machine: Machine) -> None:
        machine.write_text("/srv/seed", "edited")

    assert content(push) == "one"
    assert content(edited) == "edited"
    (tmp_path / "seed").write_text("two")
    assert content(push) == "two"
    with pytest.raises(NotFoundError, match=r"depends on '.*/missing'"):
        launcher.prepare(push, cache="x", depends=[tmp_path / "missing"])


def test_where_the_code_cannot_be_read_that_is_said(tmp_path: Path) -> None:
    class Prepare:
        def __call__(self, machine: Machine) -> None:
            machine.write_text("/srv/seed", "seed")

    said: list[str] = []
    with Launcher(accelerator="tcg", memory=128, progress=said.append) as launcher:
        launcher.prepare(Prepare(), cache=f"test {tmp_path}")
    assert any("cannot be read: what it prepares is kept by cache='test " in line for line in said)


def test_a_preparation_that_fails_is_told_and_leaves_nothing(cloning: Launcher) -> None:
    pids = []

    def fail(machine: Machine) -> None:
        pids.append(machine.pid)
        machine.exec("echo no such luck; exit 3", check=True)

    with pytest.raises(Exception, match="no such luck"):
        cloning.prepare(fail)
    assert not is_running(pids[0])
    assert cloning.leaks() == []


@pytest.mark.long
def test_a_clone_that_is_not_what_was_saved_is_not_handed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(CloneVerifier, "_verify", refuse)
    with Launcher(ready=0, progress=told.append) as launcher:
        machine = launcher.clone()
        assert machine.exec("echo booted").stdout == "booted\n"
        assert machine.boot_seconds > 1
        assert "booted and not cloned: it is another" in told[-1]
        launcher.discard(machine)
        assert launcher.leaks() == []


def refuse(*_: object) -> None:
    raise UnavailableError("it is another")


@pytest.mark.long
def test_a_machine_that_was_booted_has_snapshots_but_no_start(launcher: Launcher) -> None:
    machine = launcher.boot(memory=128)
    machine.write_text("/root/a", "1")
    machine.snapshot("one")
    machine.write_text("/root/a", "2")
    machine.revert("one")
    assert machine.read_text("/root/a") == "1"
    with pytest.raises(NotFoundError, match="booted cold"):
        machine.revert()
    launcher.discard(machine)


@pytest.mark.long
def test_where_nothing_can_be_saved_machines_are_booted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with Launcher(accelerator="tcg", memory=128, progress=told.append) as launcher:
        image = launcher.image
        (tmp_path / "snapshots").write_text("in the way")
        monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(tmp_path))
        monkeypatch.setattr(_cache, "free", lambda _directory: 0)  # nor is there room beside it
        with Launcher(accelerator="tcg", memory=128, image=image, progress=told.append) as other:
            assert other.clone().exec("echo on").stdout == "on\n"
            (tmp_path / "other").write_bytes(bytes(64 << 20))  # there is less room now
            assert other.clone().exec("echo on").stdout == "on\n"
    reasons = [line for line in told if "booted and not cloned" in line]
    assert len(reasons) == 1
    assert str(tmp_path) in reasons[0]
