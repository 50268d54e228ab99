"""A guest that reboots: the same machine, whose next session is with another boot."""

import signal
from collections.abc import Callable

import pytest

from core_infra.vm import GuestGoneError, Launcher, Machine, Status

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
