"""What only a kernel of its own allows: modules, a filesystem, a network device, sysctls.

``pytest --core-vm examples/gallery/kernel_module.py``
"""

import pytest

from core_infra.vm import Machine


def test_a_module_is_loaded_and_removed(core_vm: Machine) -> None:
    core_vm.exec("modprobe dummy numdummies=2", check=True)
    assert "dummy1" in core_vm.exec("ip link", check=True).stdout
    core_vm.exec("rmmod dummy", check=True)
    assert "dummy" not in core_vm.exec("ip link", check=True).stdout


@pytest.mark.core_vm(disks=["64M"])
def test_a_filesystem_that_runs_full(core_vm: Machine) -> None:
    core_vm.exec("mke2fs -q /dev/vda && mkdir /data && mount /dev/vda /data", check=True)
    written = core_vm.exec("dd if=/dev/zero of=/data/all bs=1M")
    assert "No space left" in written.stderr
    assert core_vm.exec("rm /data/all && echo room >/data/new && cat /data/new").stdout == "room\n"


def test_the_machine_forwards_packets(core_vm: Machine) -> None:
    core_vm.exec("sysctl -w net.ipv4.ip_forward=1", check=True)
    assert core_vm.read_text("/proc/sys/net/ipv4/ip_forward") == "1\n"
