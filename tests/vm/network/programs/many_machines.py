"""Run as a test by test_killed_run.py: ten machines on three networks, and then it waits."""

import os
import sys
from pathlib import Path

from pytest_core_infra.plugin import MachineFactory, NetworkFactory


def test_ten_machines_on_three_networks(
    core_network: NetworkFactory, core_vm_factory: MachineFactory, tmp_path: Path
) -> None:
    networks = [core_network(outside=True), core_network(), core_network()]
    machines = [
        core_vm_factory(name=f"m{number}", networks=[networks[number % 3]], disks=["8M"])
        for number in range(10)
    ]
    networks[0].pcap(tmp_path / "frames.pcapng")
    networks[1].drop(lambda _frame: False)
    networks[2].isolate("m2")
    networks[1].expose("10.9.1.1:80", "127.0.0.1:80")
    machines[0].exec("ping -c 1 m3", check=True)
    Path(os.environ["READY"]).write_text("ready")
    sys.stdin.read()
