"""The default image as a test meets it: what a booted machine has."""

from collections.abc import Iterator

import pytest

from core_infra.vm import Launcher, Machine


def test_every_file_system_that_programs_expect_is_mounted(machine: Machine) -> None:
    mounts = {
        line.split()[1]: line.split()[2] for line in machine.read_text("/proc/mounts").splitlines()
    }
    expected = {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/dev/pts": "devpts"}
    expected |= dict.fromkeys(["/tmp", "/run", "/dev/shm"], "tmpfs")
    assert expected.items() <= mounts.items()


def test_rare_modules_are_loaded_when_they_are_needed(machine: Machine) -> None:
    """Packed ones: of a network interface, of a file system, of a packet filter."""
    for kind in ("wireguard", "vxlan id 5 dstport 4789"):
        machine.exec(f"ip link add test0 type {kind} && ip link del test0", check=True)
    machine.exec("mount -t btrfs nothing /mnt; grep btrfs /proc/filesystems", check=True)
    machine.exec("modprobe nft_nat && modprobe ip6t_REJECT && modprobe dm_thin_pool", check=True)


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


@pytest.mark.parametrize("user", ["root", "tester"])
def test_the_standard_streams_have_names(machine: Machine, user: str) -> None:
    script = "cat /dev/stdin >/dev/stdout; echo err | tee /dev/stderr >/dev/null; cat /dev/fd/5 5<f"
    done = machine.exec(f"cd; echo five >f; {script}", input="in\n", user=user)
    assert (done.stdout, done.stderr, done.exit_code) == ("in\nfive\n", "err\n", 0)


def test_directories_are_where_the_standard_has_them(machine: Machine) -> None:
    names = "cache lib local lock log mail opt run spool tmp"
    machine.exec(f"cd /var && ls -d {names}", check=True)
    machine.exec("cd /usr && ls -d bin lib local sbin share", check=True)
    modes = machine.exec("stat -c %a / /tmp /var/tmp /dev/shm /run/lock /etc/shadow", check=True)
    assert modes.stdout.split() == ["755", "1777", "1777", "1777", "1777", "640"]


@pytest.mark.parametrize("path", ["/", "/root", "/tmp", "/run", "/dev/shm", "/dev"])
def test_each_file_system_is_found_and_bounded(machine: Machine, path: str) -> None:
    size = int(machine.exec(["df", "-Pk", path], check=True).stdout.splitlines()[1].split()[1])
    assert 0 < size < 256 * 1024


def test_the_root_is_a_file_system_that_can_be_left(machine: Machine) -> None:
    script = "mount -t tmpfs new /mnt && mkdir /mnt/old && cd /mnt && pivot_root . old && echo left"
    assert machine.exec(["unshare", "-m", "sh", "-c", script], check=True).stdout == "left\n"


def test_a_machine_finds_itself_by_its_name(machine: Machine) -> None:
    assert machine.exec("hostname -f", check=True).stdout == f"{machine.name}\n"
    machine.exec(f"ping -c1 {machine.name}", check=True)
    assert "core-infra" not in machine.read_text("/etc/hosts")


@pytest.mark.parametrize(
    "script",
    [
        "wget -T 2 -O- http://127.0.0.1:9/",  # Debian 12's ends in a segmentation fault
        "wget --timeout=2 -O- http://127.0.0.1:9/",
        "nslookup -timeout=1 -retry=1 localhost 127.0.0.1",
        "telnet 127.0.0.1 9",
        "traceroute -m1 -w1 127.0.0.1",
        "ftpget 127.0.0.1 a b",
        "last; who; w; uptime; free; ps; top -bn1; dmesg",
    ],
)
def test_no_program_crashes(machine: Machine, script: str) -> None:
    assert 0 <= machine.exec(script).exit_code < 126


@pytest.mark.parametrize(
    "script",
    [
        "nc -l -p 81 -e cat & sleep 0.2; echo hi | nc 127.0.0.1 81 | grep hi",
        "httpd -p 127.0.0.1:80 -h /etc && wget -qO- http://localhost/passwd | grep tester",
        "syslogd && until logger hello && grep hello /var/log/messages; do :; done",
        "crond && echo '* * * * * true' | crontab - && crontab -l",
        "passwd -d tester && su tester -c id",
        "truncate -s 2M f && mkdosfs f && mount -o loop f /media && umount /media",
        "d=$(losetup -f) && losetup $d f && mke2fs $d && mount $d /media && umount /media",
        "tunctl -t tap0",
    ],
)
def test_programs_find_what_they_need(own: Machine, script: str) -> None:
    own.exec(["sh", "-c", script], cwd="/root", check=True)


@pytest.fixture(scope="module")
def own(launcher: Launcher) -> Iterator[Machine]:
    """A machine of this module's, that its tests change."""
    machine = launcher.clone()
    yield machine
    launcher.discard(machine)


def test_full_file_systems_and_greedy_programs_do_not_harm_the_machine(launcher: Launcher) -> None:
    machine = launcher.clone(memory=128)
    for path in ("/tmp", "/root", "/run", "/dev/shm", "/dev"):
        filled = machine.exec(["dd", "if=/dev/zero", f"of={path}/fill", "bs=64k"])
        assert "No space left" in filled.stderr
    assert machine.exec("tail /dev/zero").exit_code == -9, "the kernel has killed this, not more"
    machine.exec("rm /root/fill /tmp/fill; while echo >/tmp/$((i += 1)); do :; done 2>/dev/null")
    assert machine.exec("tail /dev/zero").exit_code == -9
    assert machine.exec("cat /proc/$(pidof core-infra-agent)/oom_score_adj").stdout == "-1000\n"
    assert machine.exec("cat /proc/self/oom_score_adj").stdout == "0\n"
    launcher.discard(machine)


def test_nothing_complained_while_it_booted(machine: Machine) -> None:
    log = machine.logs()
    userland = log.partition("as init process")[2]
    assert userland, "the console's log begins with the kernel's first line"
    for complaint in ("can't", "not found", "No such file", "FATAL", "tainting", "applet"):
        assert complaint not in userland
