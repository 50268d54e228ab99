from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm import BootError

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm import Machine
    from pytest_core_infra._vm.factory import MachineFactory


def memory_of(machine: Machine) -> int:
    fields = machine.exec("grep MemTotal /proc/meminfo", check=True).stdout.split()
    return int(fields[1]) // 1024


@pytest.mark.core_vm(memory=200, cpus=2)
class TestMarked:
    @pytest.mark.core_vm(memory=96)
    def test_the_closest_marker_counts(self, core_vm: Machine) -> None:
        assert 32 < memory_of(core_vm) < 96
        assert core_vm.exec("nproc").stdout == "2\n"

    def test_a_call_outdoes_the_marker(self, core_vm_factory: MachineFactory) -> None:
        machine = core_vm_factory(memory=144, name="small")
        assert 96 < memory_of(machine) < 144
        assert (machine.name, machine.spec.cpus) == ("small", 2)


def test_a_fixture_and_its_test_share_one_machine(core_vm: Machine, prepared: Machine) -> None:
    assert prepared is core_vm
    assert core_vm.read_text("/tmp/prepared") == "yes"


@pytest.fixture
def prepared(core_vm: Machine) -> Machine:
    core_vm.write_text("/tmp/prepared", "yes")
    return core_vm


def test_errors_reach_the_test(core_vm_factory: MachineFactory, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no-such-image"):
        core_vm_factory(image=tmp_path / "no-such-image")
    with pytest.raises(InvalidError, match="10 MiB"):
        core_vm_factory(memory=10)
    with pytest.raises(BootError, match="did not"):
        core_vm_factory(timeout=0.01, cold=True)
