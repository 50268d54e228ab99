"""The fixtures for networks and clusters: ended and healed with their tests, and reported."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

SHARED = """
    import pytest

    @pytest.fixture(scope="module")
    def pair(core_network_module, core_vm_factory_module):
        net = core_network_module(name="lan")
        for name in "ab":
            core_vm_factory_module(name=name, networks=[net])
        return net
"""


def test_a_network_is_healed_after_a_test_and_reported_with_its_faults(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        SHARED
        + """
    def test_leaves_it_cut(pair, tmp_path):
        pair.cut("a", "b")
        pair.pcap(tmp_path / "frames.pcapng")
        assert not "on purpose"

    def test_finds_it_whole(pair):
        assert pair.active_faults() == []

    def test_cluster(core_vm_cluster):
        def prepare(cluster):
            cluster.add_network(name="inner")
            cluster.add_machine("x")
        copy = core_vm_cluster(prepare)
        with copy() as ended:
            assert ended["x"].exec("hostname").stdout == "x\\n"
        with copy().network.isolate("x"):
            assert not "on purpose"
    """
    )
    result = pytester.runpytest("--core-vm")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*  lan  fault cut a - b  (still active)",
            "*faults that were active*",
            "lan: cut a - b",
            "*network lan*",
            "*10.9.0.0/24: a 10.9.0.2, b 10.9.0.3*",
            "fault: cut a - b",
            "frames: *frames.pcapng",
            "*  inner  fault isolate x  (for *, until the test failed)",
            "*network inner*",
            "fault: isolate x",
        ]
    )
    result.stdout.no_fnmatch_line("*no machines*")


def test_without_machines_its_tests_are_skipped(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(core_network): pass\ndef test_b(core_vm_cluster): pass")
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(skipped=2)


@pytest.mark.long
def test_a_killed_run_with_ten_machines_on_three_networks_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_ten.py").write_text(
        """
import os, time
def test_ten(core_network, core_vm_factory):
    nets = [core_network(), core_network(), core_network(outside=True)]
    for number in range(10):
        core_vm_factory(name=f"m{number}", memory=96, networks=[nets[number % 3]])
    nets[0].cut("m0", "m3")
    print("ready", flush=True)
    time.sleep(600)
"""
    )
    command = [sys.executable, "-m", "pytest", "--core-vm", "-s", "test_ten.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert any(line.startswith("ready") or " ready" in line for line in run.stdout)
        started = psutil.Process(run.pid).children(recursive=True)
        names = [process.name() for process in started]
        assert sum("qemu" in name for name in names) > 10
        assert sum("switch" in name for name in names) == 1
        os.kill(run.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(started, timeout=30)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
