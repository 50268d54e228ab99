"""A guest goes on in each copy of its machine, with all that it had in memory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from core_infra.vm._boot import await_agent
from core_infra.vm._guest.guest import Guest
from core_infra.vm._hypervisors.fork_server import ForkServer
from core_infra.vm._vmm_launch import fork, launch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core_infra.vm import Launcher
    from core_infra.vm._vmm_process import VmmProcess


def guest_of(process: VmmProcess) -> Guest:
    return Guest(lambda: process.agent)


@pytest.fixture
def template(launcher: Launcher, tmp_path: Path) -> Iterator[VmmProcess]:
    """A machine that has booted, under TCG, and is stopped."""
    spec = launcher.spec("template")
    process = launch(launcher.hypervisor, spec, "tcg", tmp_path, server=ForkServer())
    try:
        await_agent(process, spec, 120)
        guest_of(process).exec("cat /proc/sys/kernel/random/boot_id > /tmp/whoami")
        process.qmp.execute("stop")
        yield process
    finally:
        process.end()


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Callable[[VmmProcess, str], VmmProcess]]:
    """Fork an process, and let the copy go on."""
    with contextlib.ExitStack() as stack:

        def forked(process: VmmProcess, name: str) -> VmmProcess:
            directory = tmp_path / name
            directory.mkdir()
            new = fork(process, directory, name=name, past=b"", die_with_parent=True)
            stack.callback(new.end)
            return new

        yield forked


def wake(process: VmmProcess) -> Guest:
    process.qmp.execute("cont")
    process.agent.hello(60)
    return guest_of(process)


def test_a_guest_goes_on_in_every_copy(
    template: VmmProcess, copy: Callable[[VmmProcess, str], VmmProcess]
) -> None:
    copies = [copy(template, name) for name in ("one", "two", "three")]
    guests = [wake(process) for process in copies]
    for number, guest in enumerate(guests):
        guest.exec("cmp /tmp/whoami /proc/sys/kernel/random/boot_id", check=True)
        guest.exec(f"echo {number} > /tmp/whoami")
    assert [guest.exec("cat /tmp/whoami").stdout for guest in guests] == ["0\n", "1\n", "2\n"]
    # A copy of a copy has what that one had.
    copies[1].qmp.execute("stop")
    again = wake(copy(copies[1], "again"))
    assert again.exec("cat /tmp/whoami").stdout == "1\n"
    # And the first one has noticed nothing.
    wake(template).exec("cmp /tmp/whoami /proc/sys/kernel/random/boot_id", check=True)
