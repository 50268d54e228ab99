"""Copies of a running QEMU: they live on their own, and the one they are copied from notices."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.process._child import Child
from core_infra.vm._hypervisors.fork_server import ForkServer
from core_infra.vm._hypervisors.qmp import Qmp

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINES = {"x86_64": "q35", "aarch64": "virt"}


class Machine:
    """A QEMU, or a clone of one, and our connection to its monitor."""

    def __init__(self, child: Child, monitor: socket.socket, fd: int, server: ForkServer) -> None:
        self.child = child
        self.qmp = Qmp(monitor)
        self.fd = fd
        self.server = server

    def fork(self, **options: Any) -> Machine:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.enter_context(ours)
            pid, server = self.server.fork({self.fd: theirs.fileno()}, **options)
            undo.pop_all()
        return Machine(Child(["clone"], pid), ours, self.fd, server)

    def status(self) -> str:
        return str(self.qmp.execute("query-status")["status"])

    def quit(self) -> int:
        self.qmp.post("quit")
        return self.child.wait(20)

    def close(self) -> None:
        self.child.kill()
        self.qmp.close()
        self.server.close()


@pytest.fixture
def qemu() -> Iterator[Machine]:
    """A machine that stands at its first instruction, without a kernel."""
    program = f"qemu-system-{platform.machine()}"
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    server = ForkServer()
    ours, theirs = socket.socketpair()
    command = [
        *(program, "-M", MACHINES[platform.machine()], "-accel", "tcg", "-m", "64", "-S"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-chardev", f"socket,id=monitor,fd={theirs.fileno()}"),
        *("-mon", "chardev=monitor,mode=control"),
    ]
    popen = subprocess.Popen(
        server.command(command),
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno(), *server.fds()],
        start_new_session=True,
    )
    popen.returncode = 0  # it is the Child's to wait for
    machine = Machine(Child(command, popen.pid), ours, theirs.fileno(), server)
    theirs.close()
    server.inherited()
    yield machine
    machine.close()


def test_a_clone_lives_and_ends_on_its_own(qemu: Machine) -> None:
    before = qemu.status()
    with contextlib.closing(qemu.fork()) as clone:
        assert clone.child.pid != qemu.child.pid
        assert clone.status() == before
        assert os.getsid(clone.child.pid) == clone.child.pid
        assert clone.quit() == 0
    assert qemu.status() == before
    assert qemu.quit() == 0


def test_clones_can_be_cloned(qemu: Machine) -> None:
    qemu.status()
    with contextlib.ExitStack() as stack:
        generations = [qemu]
        for _ in range(4):
            generations.append(stack.enter_context(contextlib.closing(generations[-1].fork())))
        assert {machine.status() for machine in generations} == {"prelaunch"}
        for machine in generations[1:]:
            assert machine.quit() == 0


def test_many_clones_in_a_row_and_at_once(qemu: Machine) -> None:
    qemu.status()

    def fork_and_quit(_number: int) -> int:
        with contextlib.closing(qemu.fork(timeout=30)) as clone:
            assert clone.status() == "prelaunch"
            return clone.quit()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(fork_and_quit, range(64))) == {0}
    assert qemu.status() == "prelaunch"


def test_clones_do_not_hear_each_other(qemu: Machine) -> None:
    qemu.status()
    with contextlib.closing(qemu.fork()) as one, contextlib.closing(qemu.fork()) as other:
        # QEMU's main loop sleeps until an event wakes it: a shared one would wake the wrong one.
        for _ in range(20):
            for machine in (one, other, qemu):
                assert machine.status() == "prelaunch"
        assert one.quit() == 0
        assert other.status() == qemu.status() == "prelaunch"


def test_a_machine_that_has_run_goes_on_in_the_clone(qemu: Machine) -> None:
    qemu.qmp.execute("cont")
    qemu.qmp.execute("stop")
    with contextlib.closing(qemu.fork()) as clone:
        assert clone.status() == "paused"
        clone.qmp.execute("cont")
        assert clone.status() == "running"
        assert qemu.status() == "paused"
        assert clone.quit() == 0
