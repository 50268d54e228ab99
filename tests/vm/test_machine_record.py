"""What a machine's record shows of the test: its steps, and what has changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import CoreInfraError
from core_infra.vm import GuestCommandTimeoutError
from core_infra.vm._guest.changes import compare
from core_infra.vm._guest.survey import Lock, parse_survey
from core_infra.vm._machine import record_of

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm import Launcher, Machine


def test_each_call_is_a_step_with_its_outcome(own_machine: Machine, tmp_path: Path) -> None:
    began = time.monotonic()
    (tmp_path / "f").write_text("x")
    own_machine.exec("echo out; exit 3", cwd="/tmp", user="0")
    with pytest.raises(CoreInfraError):
        own_machine.exec(["/no/such/program"])
    own_machine.push(tmp_path, "/srv/tree")
    own_machine.write_text("/srv/file", "four")
    with own_machine.stream("echo one; echo two; exit 4") as process:
        list(process)
    with pytest.raises(CoreInfraError):
        own_machine.wait_for_file("/srv/never", timeout=0.1)
    own_machine.snapshot("here")
    own_machine.revert("here")
    steps = record_of(own_machine).timeline.since(began)
    assert [(step.kind, step.what) for step in steps] == [
        ("command", "echo out; exit 3  # in /tmp as 0"),
        ("command", "/no/such/program"),
        ("push", f"{tmp_path} to /srv/tree"),
        ("write", "/srv/file (4 bytes)"),
        ("stream", "echo one; echo two; exit 4"),
        ("wait", "'/srv/never' to appear in the guest"),
        ("snapshot", "here"),
        ("revert", "here"),
    ]
    assert all(step.ended is not None and began <= step.began <= step.ended for step in steps)
    assert steps[0].result is not None
    assert steps[0].result.stdout == "out\n"
    assert "no such" in steps[1].error.lower()
    assert (steps[4].exit_code, bytes(steps[4].tail)) == (4, b"one\ntwo\n")


def test_long_output_is_not_kept_whole(machine: Machine) -> None:
    began = time.monotonic()
    result = machine.exec("echo begin; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end")
    (step,) = record_of(machine).timeline.since(began)
    assert len(result.stdout) > 1_000_000
    assert step.result is not None
    assert len(step.result.stdout) < 40_000
    assert step.result.stdout.startswith("begin\n")
    assert step.result.stdout.endswith("\nend\n")


def test_a_fresh_clone_has_not_changed(launcher: Launcher) -> None:
    machines = [launcher.clone() for _ in range(3)]  # made in advance, or not
    for machine in machines:
        changes = record_of(machine).changes()
        assert (changes.files, changes.started, changes.ended, changes.notes) == ([], [], [], [])
        launcher.discard(machine)


def test_changes_of_files_processes_and_ports_are_found(own_machine: Machine) -> None:
    own_machine.exec(
        "mkdir -p /srv/app/sub /srv/odd; touch /srv/app/sub/1 /srv/app/2 /srv/app/3 /srv/app/4 "
        '/srv/app/5; echo x > "/srv/odd/a\tb\nc";'
        "chmod 600 /etc/passwd; echo more >>/etc/profile; mv /etc/group /etc/moved; rm -r /media;"
        "ln -s nowhere /srv/link; echo hidden >/run/hidden; nc -l -p 77 >/dev/null 2>&1 &"
        "sleep 1000 >/dev/null 2>&1 &",
        check=True,
    )
    own_machine.wait_for_port(77)
    changes = record_of(own_machine).changes()
    found = {one.path: one for one in changes.files}
    how = {path: one.how for path, one in found.items()}
    assert how["/srv/app"] == "created"
    assert found["/srv/app"].inside == 6
    assert how["/srv/odd"] == how["/srv/link"] == how["/etc/moved"] == "created"
    assert how["/etc/group"] == how["/media"] == "deleted"
    passwd = found["/etc/passwd"]
    assert (passwd.how, passwd.before and passwd.before.mode) == ("changed", 0o644)
    assert passwd.after is not None
    assert passwd.after.mode == 0o600
    assert set(how) - {"/etc/profile"} == {
        *(
            "/srv/app",
            "/srv/odd",
            "/srv/odd/a\tb\nc",
            "/srv/link",
            "/etc/moved",
            "/etc/group",
            "/media",
        ),
        "/etc/passwd",
    }
    assert "sleep 1000" in [one.process.command for one in changes.started]
    assert [(one.port, who[:2]) for one, who in changes.opened] == [(77, "nc")]
    assert (changes.full, changes.lost) == ([], [])
    own_machine.exec("kill $(pidof nc)", check=True)
    assert record_of(own_machine).changes().lost == [77]
    own_machine.revert()
    assert record_of(own_machine).changes().files == []


def test_what_a_failure_left_behind_is_found(own_machine: Machine) -> None:
    own_machine.exec(
        "mkdir /mnt/ro; mount -t tmpfs -o ro none /mnt/ro; echo 'fatal: no db' > /var/log/app.log;"
        "printf 'a\\0b' > /var/log/binary.log; echo nameserver 10.9.9.9 > /etc/resolv.conf;"
        "printf '#!/no/python\\n' > /srv/script; printf '#!/bin/sh\\r\\n' > /srv/dos;"
        "chmod 755 /srv/script /srv/dos; date -s '2020-01-01 00:00' > /dev/null",
        check=True,
    )
    changes = record_of(own_machine).changes()
    assert [(how, one.path, one.read_only) for how, one in changes.mounts] == [
        ("mounted", "/mnt/ro", True)
    ]
    assert sorted(changes.logs) == [
        ("/etc/resolv.conf", "nameserver 10.9.9.9\n"),
        ("/var/log/app.log", "fatal: no db\n"),
    ]
    assert changes.broken == [("/srv/dos", "/bin/sh\r"), ("/srv/script", "/no/python")]
    assert changes.clock_off < -86400 * 365
    assert "clock was set back" in changes.notes[-1]


def test_what_a_command_waited_for_when_its_time_was_up(own_machine: Machine) -> None:
    own_machine.exec("mkfifo /srv/fifo", check=True)
    began = time.monotonic()
    for command in ("read x < /srv/fifo", "nc -l -p 99", "exec sleep 99"):
        with pytest.raises(GuestCommandTimeoutError):
            own_machine.exec(command, timeout=0.5)
    own_machine.exec("true", check=True)  # after it, all that was sent before has arrived
    waits = [step.waited_for() for step in record_of(own_machine).timeline.since(began)]
    assert "opens /srv/fifo" in waits[0]
    assert "waits for a connection to tcp [::]:99" in waits[1]
    assert "sleep 99: sleeps" in waits[2]
    assert waits[3] == ""


def test_a_lock_is_shown_with_its_holder() -> None:
    then = parse_survey(b"W\tPOSIX\t7\t/run/old\0")
    now = parse_survey(
        b"P\t7\t1\t5\tS\t4096\tappd -x\0W\tPOSIX\t7\t/run/old\0W\tFLOCK\t7\t/run/a b\0"
    )
    found = compare(then, now, resumed=[(0, 1)]).locks
    assert found == [(Lock("FLOCK", 7, "/run/a b"), "appd -x")]


def test_a_full_disk_is_found(own_machine: Machine) -> None:
    own_machine.exec("dd if=/dev/zero of=/srv/big bs=1M")
    assert [one.path for one in record_of(own_machine).changes().full] == ["/"]


def test_a_guest_that_cannot_answer_is_a_note(own_machine: Machine) -> None:
    own_machine.stop()
    (note,) = record_of(own_machine).changes().notes
    assert "could not be asked" in note
