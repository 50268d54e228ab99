"""Durability: what does a program still have after a power cut?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from core_infra.vm import Machine

SAVE = """
echo "order 1" | dd of=/dev/vda conv=sync,fsync 2>/dev/null
echo "order 1 is saved" >/dev/console
sleep 600
"""


@pytest.mark.core_vm(disks=["16M"])
def test_what_was_acknowledged_is_there_after_a_power_cut(core_vm: Machine) -> None:
    with core_vm.stream(SAVE):
        core_vm.power_cut(until="order 1 is saved")
    core_vm.power_on()
    assert core_vm.exec("head -c 7 /dev/vda", check=True).stdout == "order 1"
