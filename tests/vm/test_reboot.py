"""A guest that reboots: the same machine, whose next session is with another boot."""

import signal
from collections.abc import Callable

import pytest

from core_infra.vm import GuestGoneError, Launcher, Machine, Status, _cold_restart
from support import is_running

BOOT_ID = "/proc/sys/kernel/random/boot_id"


@pytest.mark.parametrize(
    "start", [Launcher.clone, pytest.param(Launcher.boot, marks=pytest.mark.long)]
)
def test_a_machine_goes_on_after_a_reboot(
    launcher: Launcher, start: Callable[..., Machine]
) -> None:
    machine = start(launcher, disks=["8M"])
    machine.exec("mke2fs /dev/vda && mount /dev/vda /mnt && echo kept >/mnt/f", check=True)
    was = machine.read_text(BOOT_ID)
    machine.write_text("/root/mine", "gone with the memory")
    assert machine.exec("reboot; exec sleep 600").exit_code == -signal.SIGTERM, "as by its init"
    machine.wait_until_succeeds("test ! -e /root/mine", timeout=300)
    assert machine.read_text(BOOT_ID) != was
    assert machine.guest_info["boot_id"] == machine.read_text(BOOT_ID).strip()
    machine.exec("mount /dev/vda /mnt && grep kept /mnt/f", check=True)
    machine.exec("sync; echo 1 >/proc/sys/kernel/sysrq")
    with pytest.raises(GuestGoneError, match="Kernel panic"):
        machine.exec("echo c >/proc/sysrq-trigger; sleep 60")
    assert machine.status is Status.FAILED
    launcher.discard(machine)


def test_a_guest_with_a_boot_loader_restarts_in_a_new_process(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The default image has no boot loader; all else is as with a disk that has one.
    monkeypatch.setattr(_cold_restart, "restarts_cold", lambda _process: True)
    machine = launcher.clone(disks=["8M"])
    machine.exec("mke2fs /dev/vda && mount /dev/vda /mnt && echo kept >/mnt/f", check=True)
    was, pid, port = machine.read_text(BOOT_ID), machine.pid, machine.port(80)
    with pytest.raises(GuestGoneError, match="has ended"):
        machine.exec("umount /mnt; reboot -f; sleep 600")
    machine.wait_until_succeeds("true", timeout=300)
    assert machine.read_text(BOOT_ID) != was
    assert machine.pid != pid
    assert not is_running(pid)
    assert machine.port(80) == port
    machine.exec("mount /dev/vda /mnt && grep kept /mnt/f", check=True)
    assert "[core-infra: restarted]" in machine.logs()
    with pytest.raises(GuestGoneError, match="Kernel panic"):
        machine.exec("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60")
    assert machine.status is Status.FAILED
    launcher.discard(machine)


def test_a_machine_that_is_ended_while_it_restarts_leaves_nothing(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cold_restart, "restarts_cold", lambda _process: True)
    machine = launcher.clone()
    with pytest.raises(GuestGoneError, match="has ended"):
        machine.exec("reboot -f; sleep 600")
    launcher.discard(machine)
    assert machine.status is Status.STOPPED
    assert launcher.leaks() == []
