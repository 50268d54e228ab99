"""Revert a machine to an earlier state; prepare one machine for many tests."""

from collections.abc import Callable

import pytest

from core_infra.vm import Machine


def test_revert(core_vm: Machine) -> None:
    core_vm.write_text("/srv/state", "good")
    core_vm.snapshot("good")

    core_vm.exec("rm -rf /srv /etc", check=True)
    core_vm.revert("good")  # memory, files and processes are as they were
    assert core_vm.read_text("/srv/state") == "good"

    core_vm.revert()  # without a name: to its initial state
    assert core_vm.exec("ls /srv/state").exit_code != 0


@pytest.fixture(scope="session")
def seeded(core_vm_snapshot: Callable[..., Callable[..., Machine]]) -> Callable[..., Machine]:
    """Prepared once in a run: each call returns a clone of it."""

    def prepare(machine: Machine) -> None:
        machine.write_text("/srv/users", "ada\ngrace\n")
        machine.exec("httpd -p 80 -h /srv", check=True)  # a process that runs is cloned as well
        machine.wait_for_port(80)

    return core_vm_snapshot(prepare)


def test_delete_a_user(seeded: Callable[..., Machine]) -> None:
    machine = seeded()
    machine.exec("sed -i /ada/d /srv/users", check=True)
    assert machine.exec("wget -qO- localhost/users").stdout == "grace\n"


def test_the_other_test_changed_nothing(seeded: Callable[..., Machine]) -> None:
    assert seeded().exec("wget -qO- localhost/users").stdout == "ada\ngrace\n"
