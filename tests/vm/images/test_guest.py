"""The default image as a test meets it: what a booted machine has."""

import pytest

from core_infra.vm import Machine


def test_every_file_system_that_programs_expect_is_mounted(machine: Machine) -> None:
    mounts = {
        line.split()[1]: line.split()[2] for line in machine.read_text("/proc/mounts").splitlines()
    }
    expected = {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/dev/pts": "devpts"}
    expected |= dict.fromkeys(["/tmp", "/run", "/dev/shm"], "tmpfs")
    assert expected.items() <= mounts.items()


def test_modprobe_loads_what_a_module_needs_first(machine: Machine) -> None:
    machine.exec(["modprobe", "vfat"], check=True)
    loaded = {line.split()[0] for line in machine.read_text("/proc/modules").splitlines()}
    assert {"fat", "vfat"} <= loaded


def test_the_kernel_loads_a_file_system_when_it_is_mounted(machine: Machine) -> None:
    script = "cd $(mktemp -d) && mkdir a b c d && echo hi >a/f && "
    script += "mount -t overlay -o lowerdir=a,upperdir=b,workdir=c overlay d && cat d/f && umount d"
    assert machine.exec(["sh", "-c", script], check=True).stdout == "hi\n"


def test_the_network_is_up_when_the_agent_answers(machine: Machine) -> None:
    addresses = machine.exec(["ip", "-4", "addr"], check=True).stdout
    assert "inet 127.0.0.1/8" in addresses
    if "eth0" in addresses:
        assert "inet 10.0.2.15/24" in addresses
        assert "via 10.0.2.2" in machine.exec(["ip", "route"], check=True).stdout
        assert "10.0.2.3" in machine.read_text("/etc/resolv.conf")
    assert machine.exec(["ping", "-c1", "localhost"], check=True).exit_code == 0


def test_it_has_a_name_and_an_identity(machine: Machine) -> None:
    assert machine.exec(["hostname"], check=True).stdout == f"{machine.name}\n"
    identity = machine.read_text("/etc/machine-id").strip()
    assert len(bytes.fromhex(identity)) == 16
    assert "ID=core-infra" in machine.read_text("/etc/os-release")


def test_an_ordinary_user_is_there_and_is_no_root(machine: Machine) -> None:
    done = machine.exec(["sh", "-c", "id -un; touch ~/mine /tmp/too; touch /etc/no"], user="tester")
    assert done.stdout == "tester\n"
    assert done.exit_code == 1
    assert "/etc/no" in done.stderr
    assert machine.exec(["stat", "-c", "%U", "/home/tester/mine"]).stdout == "tester\n"


@pytest.mark.parametrize(
    "script",
    [
        "grep -c . /proc/self/status",
        "ls -la /sbin/init /bin/sh /usr/sbin/chroot /usr/bin/env",
        "echo x >/dev/null",
        "head -c1 /dev/urandom",
        "cat /sys/class/misc/hw_random/rng_current | grep virtio_rng",
        "df /tmp | grep tmpfs",
    ],
)
def test_ordinary_commands_work(machine: Machine, script: str) -> None:
    machine.exec(["sh", "-c", script], check=True)


def test_nothing_complained_while_it_booted(machine: Machine) -> None:
    log = machine.logs()
    userland = log.partition("as init process")[2]
    assert userland, "the console's log begins with the kernel's first line"
    for complaint in ("can't", "not found", "No such file", "FATAL", "tainting", "applet"):
        assert complaint not in userland
