"""Machines that outlive the command: run, looked at, entered, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import psutil
import pytest

from core_infra.errors import (
    AlreadyExistsError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from core_infra.vm._manager.manager import LinuxKitManager
from core_infra.vm._manager.record import Access, Container, ContainerStatus
from core_infra.vm._manager.registry import MACHINES
from core_infra.vm._manager.run_options import RunOptions
from core_infra.vm._manager.state_file import State
from core_infra.vm._state_directory import VARIABLE
from machine_files import directory_of
from support import is_running, wait_gone

if TYPE_CHECKING:
    from core_infra.vm._images.image import Image


def listening(pid: int) -> list[tuple[str, int]]:
    """The addresses that a process listens on, TCP and UDP."""
    return [
        (one.laddr.ip, one.laddr.port)
        for one in psutil.Process(pid).net_connections("inet")
        if one.status == psutil.CONN_LISTEN or (one.type.name == "SOCK_DGRAM" and not one.raddr)
    ]


def test_a_detached_machine_is_remembered_as_it_is(
    manager: LinuxKitManager, shared: Container
) -> None:
    assert shared.status is ContainerStatus.RUNNING
    assert shared.pid is not None
    assert is_running(shared.pid)
    assert os.getsid(shared.pid) == shared.pid, "no terminal's end reaches it"
    again = LinuxKitManager(state=State(manager.state.directory))
    assert again.find("shared") == shared
    assert again.find(shared.id[:5]) == shared
    assert shared in again.list()


def test_nothing_listens_but_on_the_loopback_address(
    shared: Container, linuxkit_like: Container
) -> None:
    for container in (shared, linuxkit_like):
        assert container.pid is not None
        found = listening(container.pid)
        assert {address for address, _ in found} == {"127.0.0.1"}
        ports = {*container.ports, *filter(None, [container.ssh_port])}
        assert {port for _, port in found} == ports


def test_commands(manager: LinuxKitManager, shared: Container) -> None:
    result = manager.exec(shared.id, "echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert manager.exec("shared", ["echo", "a  b"]).stdout == "a  b\n"


@pytest.mark.usefixtures("virtiofsd")
def test_a_volume_is_the_directory_itself(manager: LinuxKitManager, shared: Container) -> None:
    ((host, guest),) = shared.volumes.items()
    assert guest == "/mnt/the volume"
    assert manager.exec("shared", ["cat", f"{guest}/here"]).stdout == "from the host\n"
    manager.exec("shared", f"echo there >'{guest}/there'").check()
    assert (Path(host) / "there").read_text() == "there\n"


def test_a_port_leads_into_the_machine(manager: LinuxKitManager, shared: Container) -> None:
    ((host, guest),) = shared.ports.items()
    assert guest == 80
    page = "mkdir -p /srv/www; echo hello >/srv/www/index.html; httpd -p 80 -h /srv/www"
    manager.exec("shared", page).check()
    with urllib.request.urlopen(f"http://127.0.0.1:{host}/index.html", timeout=30) as answer:
        assert answer.read() == b"hello\n"


def test_the_console_is_logged_from_its_first_byte(
    manager: LinuxKitManager, shared: Container
) -> None:
    assert b"Linux version" in b"".join(manager.logs(shared.id))
    manager.exec("shared", "echo a line on the console >/dev/console").check()
    pieces = manager.logs("shared", follow=True)
    text = b""
    while b"a line on the console" not in text:
        text += next(pieces)
    pieces.close()  # type: ignore[attr-defined] # a generator


def test_a_name_is_taken_once(manager: LinuxKitManager, shared: Container) -> None:
    with pytest.raises(AlreadyExistsError, match="machine shared already"):
        manager.run("default", RunOptions(name=shared.name, detach=True))
    assert manager.find("shared").pid == shared.pid


def test_a_running_machine_is_not_removed(manager: LinuxKitManager, shared: Container) -> None:
    with pytest.raises(WrongStateError, match="cannot remove machine shared: it is running"):
        manager.remove(shared.id)
    assert manager.exec("shared", "true").exit_code == 0


def test_names_that_nobody_has(manager: LinuxKitManager, shared: Container) -> None:
    for name in ("", "nobody", "zzzzzzzz"):
        with pytest.raises(NotFoundError, match=f"there is .*{shared.name}"):
            manager.find(name)


def test_an_ambiguous_prefix_names_those_that_it_means(tmp_path: Path) -> None:
    manager = LinuxKitManager(state=State(tmp_path))
    for id_ in ("abcd0001", "abcd0002"):
        manager.state.add(
            Container(id=id_, name=f"n{id_}", image="i", status=ContainerStatus.STOPPED)
        )
    with pytest.raises(InvalidError, match=r"abcd0001 \(nabcd0001\), abcd0002"):
        manager.find("abcd")
    assert manager.find("abcd0002").name == "nabcd0002"
    with pytest.raises(InvalidError, match="Give its id or name"):
        manager.find(5)  # type: ignore[arg-type] # wrong on purpose


def test_an_exact_name_comes_before_the_beginning_of_an_id(tmp_path: Path) -> None:
    manager = LinuxKitManager(state=State(tmp_path))
    for id_, name in (("beef0003", "abcd"), ("abcd0001", "other")):
        manager.state.add(Container(id=id_, name=name, image="i", status=ContainerStatus.STOPPED))
    assert manager.find("abcd").id == "beef0003"
    assert manager.find("abcd0").id == "abcd0001"


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (RunOptions(name="a b"), InvalidError, "cannot be named"),
        (RunOptions(cpus=0), InvalidError, "0 cpus"),
        (RunOptions(memory=1), InvalidError, "1 MiB"),
        (RunOptions(memory=0), InvalidError, "0 MiB"),
        (RunOptions(name=""), InvalidError, "cannot be named ''"),
        (RunOptions(volumes={"/nowhere": "/x"}), NotFoundError, "no directory /nowhere"),
        (RunOptions(hypervisor="none"), NotFoundError, "known are qemu, hyperkit"),
        (RunOptions(accelerator="none"), InvalidError, "unknown accelerator"),
        (RunOptions(publish=[0]), InvalidError, "no port 0"),
        (RunOptions(ports={70000: 80}), InvalidError, "no port 70000"),
        (RunOptions(volumes={"/usr": "/"}), InvalidError, "would hide all that is there"),
        (RunOptions(volumes={"/usr": "/m", "/var": "/m/"}), InvalidError, "would hide"),
        (RunOptions(ssh_key="/nowhere/key"), NotFoundError, "no private key /nowhere/key"),
        (RunOptions(ssh_user=""), InvalidError, "must have a name"),
        (RunOptions(in_place=True), InvalidError, "in place"),
    ],
)
def test_what_cannot_be_run_leaves_nothing(
    tmp_path: Path, options: RunOptions, kind: type[Exception], message: str
) -> None:
    manager = LinuxKitManager(state=State(tmp_path))
    with pytest.raises(kind, match=message):
        manager.run("default", options)
    assert manager.list() == []
    assert not list(tmp_path.glob(f"{MACHINES}/*"))


def test_a_taken_port_is_told_and_leaves_nothing(tmp_path: Path, shared: Container) -> None:
    manager = LinuxKitManager(state=State(tmp_path))
    (taken,) = shared.ports
    with pytest.raises(UnavailableError, match=r"port \d+ of this host cannot lead to port 80"):
        manager.run("default", RunOptions(detach=True, ports={taken: 80}))
    assert manager.list() == []
    assert not list(tmp_path.glob(f"{MACHINES}/*"))


def test_a_machine_that_was_killed_is_in_error_with_its_reason(
    manager: LinuxKitManager, default: Image
) -> None:
    container = manager.run(default, RunOptions(name="killed", detach=True, memory=128))
    assert container.pid is not None
    os.kill(container.pid, signal.SIGKILL)
    wait_gone(container.pid)
    found = manager.find("killed")
    assert found.status is ContainerStatus.ERROR
    assert "killed, or crashed" in found.reason
    assert found.pid is None
    with pytest.raises(WrongStateError, match="it is error: its process was killed"):
        manager.exec("killed", "true")
    with pytest.raises(WrongStateError):
        manager.stop("killed")
    assert manager.remove("killed").name == "killed"
    assert not directory_of(manager, container).path.exists()


def test_another_process_with_the_same_pid_is_no_machine(tmp_path: Path) -> None:
    manager = LinuxKitManager(state=State(tmp_path))
    mine = Container(id="00000001", name="mine", image="i", pid=os.getpid(), start="0/1")
    manager.state.add(mine)
    assert manager.find("mine").status is ContainerStatus.STOPPED
    assert manager.find("mine").reason == "this host was restarted"


STARTER = Path(__file__).parent / "programs" / "killed_start.py"


def test_a_starter_that_is_killed_leaves_no_machine_that_nobody_knows(tmp_path: Path) -> None:
    subprocess.run([sys.executable, STARTER, tmp_path], check=False)
    manager = LinuxKitManager(state=State(tmp_path))
    (record,) = manager.state.all()
    pid = directory_of(manager, record).pid()
    assert pid is not None
    assert is_running(pid), "the machine had been started"
    (found,) = manager.list()
    assert found.status is ContainerStatus.ERROR
    assert found.reason == "the process that started it was ended before it ran"
    wait_gone(pid)
    assert [one.id for one in manager.prune()] == [found.id]
    assert manager.list() == []


FOREGROUND = Path(__file__).parent / "programs" / "foreground.py"


def test_in_the_foreground_the_console_is_the_terminal_and_the_log(tmp_path: Path) -> None:
    child = pexpect.spawn(
        sys.executable, [str(FOREGROUND), str(tmp_path)], encoding="utf-8", timeout=120
    )
    child.expect_exact("Linux version")
    child.expect_exact("core-infra:~# ")
    child.sendline("echo $((40 + 2)) is typed; poweroff")
    child.expect_exact("42 is typed")
    child.expect_exact("it is stopped")
    child.expect(pexpect.EOF)
    manager = LinuxKitManager(state=State(tmp_path))
    log = b"".join(manager.logs("front"))
    assert b"Linux version" in log
    assert b"42 is typed" in log
    assert manager.find("front").reason == "it ended by itself"


def test_ssh_is_chosen_where_there_is_no_agent(
    manager: LinuxKitManager, linuxkit_like: Container
) -> None:
    assert linuxkit_like.access is Access.NONE
    result = manager.exec("kit", "id -un; echo err >&2; exit 4")
    assert (result.stdout, result.stderr, result.exit_code) == ("root\n", "err\n", 4)
    assert manager.find("kit").access is Access.SSH
    folder = directory_of(manager, linuxkit_like)
    assert folder.key.stat().st_mode & 0o777 == 0o600
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert b"a service says hello" in b"".join(manager.logs("kit"))


def test_a_stop_is_asked_for_and_then_told(manager: LinuxKitManager, default: Image) -> None:
    manager.run(default, RunOptions(name="polite", detach=True, memory=128))
    manager.exec("polite", "true")  # it has booted
    stopped = manager.stop("polite")
    assert (stopped.status, stopped.reason) == (ContainerStatus.STOPPED, "the guest shut down")
    with pytest.raises(WrongStateError, match="it is stopped"):
        manager.stop("polite")
    assert b"reboot: Power down" in b"".join(manager.logs("polite"))
    manager.remove("polite")


@pytest.mark.long
@pytest.mark.usefixtures("virtiofsd")
def test_volumes_are_mounted_by_who_comes_first_if_the_starter_was_killed(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "here").write_text("from the host\n")
    state = tmp_path / ("long" * 30)  # a socket's own path could not be as long
    manager = LinuxKitManager(state=State(state))
    line = [
        sys.executable,
        "-m",
        "core_infra",
        "vm",
        "run",
        "-d",
        "default",
        "--name",
        "orphan",
        "-m",
        "96",
    ]
    environment = {**os.environ, VARIABLE: str(state)}
    try:
        with subprocess.Popen(
            [*line, "-v", f"{tmp_path}/volume:/mnt/v"], env=environment
        ) as starting:
            # Once it is remembered as started, it is only waited for.
            while not any(not one.starting for one in manager.list()):
                assert starting.poll() is None
            starting.kill()
        assert manager.exec("orphan", "cat /mnt/v/here").stdout == "from the host\n"
        assert manager.exec("orphan", "mount | grep -c /mnt/v").stdout == "1\n"
    finally:
        for one in manager.list():
            manager.remove(one.id, force=True)
