"""A systemd unit of yours: it starts at boot, is restarted when killed, and gives up in the end.

``pytest --core-vm examples/gallery/systemd_unit.py``; the first run makes a Debian system.
"""

from collections.abc import Callable

import pytest

from core_infra.vm import Machine

UNIT = """\
[Unit]
StartLimitIntervalSec=60
StartLimitBurst=3

[Service]
ExecStart=/usr/bin/sleep infinity
Restart=on-failure
RestartSec=100ms

[Install]
WantedBy=multi-user.target
"""
PID = "systemctl show --value -p MainPID worker"


@pytest.fixture(scope="session")
def installed(core_vm_snapshot: Callable[..., Callable[..., Machine]]) -> Callable[..., Machine]:
    def prepare(vm: Machine) -> None:
        vm.write_text("/etc/systemd/system/worker.service", UNIT)
        vm.exec("systemctl enable --now worker", check=True)

    return core_vm_snapshot(prepare, image="debian")


@pytest.fixture
def machine(installed: Callable[..., Machine]) -> Machine:
    return installed()


def test_it_is_restarted_when_it_is_killed(machine: Machine) -> None:
    pid = machine.exec(PID, check=True).stdout
    machine.exec(f"kill -9 {pid}", check=True)
    machine.wait_until_succeeds(f"systemctl is-active worker && [ $({PID}) != {pid.strip()} ]")


def test_it_gives_up_in_the_end(machine: Machine) -> None:
    kill = f"pid=$({PID}); [ $pid = 0 ] || kill -9 $pid; systemctl is-failed worker"
    machine.wait_until_succeeds(kill)
    machine.exec("systemctl reset-failed worker && systemctl start worker", check=True)


def test_it_starts_at_boot_and_the_disk_is_kept(machine: Machine) -> None:
    machine.write_text("/srv/kept", "kept\n")
    machine.reboot(timeout=300)
    assert machine.read_text("/srv/kept") == "kept\n"
    machine.wait_until_succeeds("systemctl is-active worker", timeout=120)
