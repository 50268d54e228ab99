"""The life of a machine: its console, its end, and what a broken one says."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm import BootError, GuestGoneError, Launcher, Machine, MachineStateError, Status
from core_infra.vm._cache import cache_root
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.image import Image, host_arch
from support import is_running, wait_gone


def test_the_console_is_a_pexpect_object_from_the_first_byte(machine: Machine) -> None:
    console = machine.console
    console.expect("Linux version")
    console.expect_exact("core-infra:")
    console.sendline("echo $((6 * 7)) is it")
    console.expect(r"(\d+) is it\r\n")
    match = console.match
    assert isinstance(match, re.Match)
    assert match[1] == "42"
    with pytest.raises(pexpect.TIMEOUT):
        console.expect("this never comes", timeout=0.1)


def test_logs_hold_the_console_from_the_first_line(machine: Machine) -> None:
    machine.exec("echo marker one > /dev/console", check=True)
    machine.console.expect("marker one")
    log = machine.logs()
    assert log.index("Linux version") < log.index("Run /init") < log.index("marker one")


def test_following_the_log_ends_with_the_machine(own_machine: Machine) -> None:
    lines: list[str] = []
    seen = threading.Event()

    def follow() -> None:
        for line in own_machine.logs(follow=True):
            lines.append(line)
            if "marker two" in line:
                seen.set()

    thread = threading.Thread(target=follow)
    thread.start()
    own_machine.exec("echo marker two > /dev/console", check=True)
    assert seen.wait(30)
    own_machine.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert any("Linux version" in line for line in lines)


def test_stop_ends_everything_and_may_be_called_twice(own_machine: Machine) -> None:
    pid = own_machine.pid
    own_machine.stop()
    assert own_machine.status is Status.STOPPED
    assert not is_running(pid)
    own_machine.stop()
    with pytest.raises(MachineStateError, match=r"stopped(?s:.*)running") as caught:
        own_machine.exec("true")
    assert (caught.value.needed, caught.value.found) == ("running", "stopped")
    assert "Linux version" in own_machine.logs()


def test_poweroff_is_the_guests_own(own_machine: Machine) -> None:
    own_machine.poweroff()
    assert own_machine.status is Status.STOPPED
    assert "Power down" in own_machine.logs()


def test_stopping_from_two_threads(own_machine: Machine) -> None:
    threads = [threading.Thread(target=own_machine.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert own_machine.status is Status.STOPPED


def test_a_guest_that_dies_fails_what_is_under_way_with_the_console(own_machine: Machine) -> None:
    with pytest.raises(GuestGoneError, match="sysrq") as caught:
        own_machine.exec("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 60")
    assert "Kernel panic" in str(caught.value)
    assert own_machine.status is Status.FAILED
    with pytest.raises(GuestGoneError, match="Kernel panic"):
        own_machine.exec("true")
    own_machine.stop()


def test_a_killed_agent_fails_what_is_under_way_and_comes_back(own_machine: Machine) -> None:
    process = own_machine.stream("echo on; sleep 600")
    assert next(iter(process)) == "on"
    with pytest.raises(GuestGoneError, match="agent"):
        own_machine.exec("kill -9 $(pidof core-infra-agent); sleep 600")
    with pytest.raises(GuestGoneError, match="agent"):
        process.wait(60)
    assert own_machine.exec("echo back").stdout == "back\n"
    assert own_machine.status is Status.RUNNING


def test_a_killed_hypervisor_fails_what_is_under_way(own_machine: Machine) -> None:
    process = own_machine.stream("echo on; sleep 60")
    assert next(iter(process)) == "on"
    os.kill(own_machine.pid, signal.SIGKILL)
    with pytest.raises(GuestGoneError, match="SIGKILL"):
        process.wait(60)


def test_a_stopped_machine_fails_what_is_under_way(own_machine: Machine) -> None:
    process = own_machine.stream("echo on; sleep 60")
    assert next(iter(process)) == "on"
    own_machine.stop()
    with pytest.raises(GuestGoneError, match="was stopped"):
        process.wait(60)


def test_the_machine_is_of_the_size_asked_for(launcher: Launcher) -> None:
    machine = launcher.boot(memory=512, cpus=2, name="large")
    try:
        assert machine.exec("nproc").stdout == "2\n"
        total = int(machine.exec("awk '/MemTotal/{print $2}' /proc/meminfo").stdout)
        assert 400_000 < total <= 512 * 1024
        with pytest.raises(InvalidError, match="another"):
            launcher.boot(name="large")
    finally:
        launcher.discard(machine)


def test_the_network_is_hermetic(machine: Machine) -> None:
    # The gateway of QEMU's user network leads to this host's loopback; none of it may be reached.
    result = machine.exec("echo | nc -w 2 10.0.2.2 22", timeout=60)
    assert result.exit_code != 0
    assert machine.exec("ip route get 10.0.2.2").exit_code == 0


def test_two_machines_are_strangers(launcher: Launcher, machine: Machine) -> None:
    with launcher.boot() as other:
        random = "head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/boot_id"
        assert machine.exec(random).stdout != other.exec(random).stdout
        machine.write_text("/tmp/mine", "mine")
        assert other.exec("test -e /tmp/mine").exit_code == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"memory": 8}, "8 MiB"),
        ({"cpus": 0}, "0 cpus"),
        ({"name": "../x"}, "../x"),
        ({"name": ""}, "''"),
        ({"memory": 10_000_000}, "10000000"),
    ],
)
def test_impossible_machines_are_refused(
    launcher: Launcher, options: dict[str, object], named: str
) -> None:
    with pytest.raises((InvalidError, BootError), match=named):
        launcher.boot(**options)  # type: ignore[arg-type]


def default() -> Image:
    return default_image(host_arch(), cache_dir=cache_root())


class TestBrokenImages:
    """One clear error each, with the console's tail where there is one, and nothing left."""

    @pytest.fixture(autouse=True)
    def nothing_left(self, launcher: Launcher) -> Iterator[None]:
        before = sorted(launcher.run.path.iterdir())
        yield
        assert sorted(launcher.run.path.iterdir()) == before

    def test_a_kernel_that_panics(self, launcher: Launcher) -> None:
        image = replace(default(), initrd=None)
        with pytest.raises(BootError, match="Kernel panic") as caught:
            launcher.boot(image)
        assert "Unable to mount root" in caught.value.console
        assert "-kernel" in caught.value.command

    def test_a_guest_without_an_agent(self, launcher: Launcher) -> None:
        image = default()
        image = replace(image, cmdline=f"{image.cmdline} rdinit=/bin/cat")
        with pytest.raises(BootError, match="did not answer within"):
            launcher.boot(image, timeout=5)

    def test_an_initrd_of_garbage(self, launcher: Launcher, tmp_path: Path) -> None:
        initrd = tmp_path / "initrd"
        initrd.write_bytes(b"garbage" * 1000)
        with pytest.raises(BootError, match="Kernel panic"):
            launcher.boot(replace(default(), initrd=initrd))

    def test_a_hypervisor_that_refuses_says_why(self, launcher: Launcher, tmp_path: Path) -> None:
        image = replace(default(), initrd=tmp_path)  # a directory
        with pytest.raises(BootError, match="initrd"):
            launcher.boot(image)

    def test_a_file_that_is_gone_is_named(self, launcher: Launcher, tmp_path: Path) -> None:
        image = replace(default(), initrd=tmp_path / "absent")
        with pytest.raises(NotFoundError, match="absent"):
            launcher.boot(image)


def test_a_missing_hypervisor_tells_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with Launcher(accelerator="tcg") as launcher, pytest.raises(Exception, match="apt-get install"):
        launcher.boot()


OWNER = Path(__file__).parent / "programs" / "machine_owner.py"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["die", "outlive"])
def test_a_killed_owner_leaves_nothing_that_the_next_start_does_not_remove(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with subprocess.Popen(
        [sys.executable, OWNER, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        pid, run = owner.stdout.readline().decode().split()
        owner.kill()
        owner.wait()
    if kind == "die":
        wait_gone(int(pid))
    else:
        assert is_running(int(pid))
    with Launcher() as launcher:
        swept = launcher.run.swept
    wait_gone(int(pid))
    assert [(str(entry.directory), entry.ended) for entry in swept] == [
        (run, int(kind == "outlive"))
    ]
    assert not Path(run).exists()


def test_a_kept_machine_outlives_its_launcher_and_can_be_reached() -> None:
    with Launcher(accelerator="tcg", outlive=True) as launcher:
        machine = launcher.boot(name="kept")
        directory = launcher.keep(machine)
    try:
        assert is_running(machine.pid)
        assert {"console.sock", "machine.json"} <= {path.name for path in directory.iterdir()}
        with Launcher() as other:
            assert directory not in [entry.directory for entry in other.run.swept]
        assert is_running(machine.pid)
    finally:
        os.kill(machine.pid, signal.SIGKILL)
        wait_gone(machine.pid)
    with Launcher() as other:
        assert directory in [entry.directory for entry in other.run.swept]


def test_the_kernel_of_an_idle_machine_does_not_look_for_fragments_of_memory(
    machine: Machine,
) -> None:
    assert machine.read_text("/proc/sys/vm/compaction_proactiveness") == "0\n"
