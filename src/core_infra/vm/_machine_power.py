"""The power of a machine: restarts, power off and on, and cuts that lose what was not flushed.

A guest that restarts stays in its VMM process. A machine without power has none: its disks' files
remain, and a new process boots from them. That is as fast as a reset of a clone, and nothing of the
memory remains.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from core_infra._eventloop.latch import Latch
from core_infra._unpatched import time
from core_infra.errors import InvalidError, TimeoutExpiredError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm import _unflushed as unflushed
from core_infra.vm._boot import boot_limit
from core_infra.vm._guest.connection import AgentGoneError, GuestGoneError
from core_infra.vm._guest.guest import Guest
from core_infra.vm._vmm_process import TAIL_LINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._machine_lifecycle import MachineLifecycle
    from core_infra.vm._vmm_process import VmmProcess

_SHUTDOWN = 8.0
"""Seconds, before scaling, that a guest may take to end its services."""

_POWEROFF = 40.0
"""The same if the agent does it, which also waits for the disks."""

_READ = 1 << 16
# A shell's PATH may lack the directories of the system's programs; the last is ours, in OCI images.
_ASK = "PATH=$PATH:/sbin:/usr/sbin:/run/core-infra/bin; exec {}"


class Waitable(Protocol):
    """An event that another thread sets, such as a ``threading.Event``."""

    def wait(self, timeout: float | None = None, /) -> bool:
        """Wait until it is set; False if it was not within *timeout* seconds."""
        ...


class MachinePower:
    """The power button, the reset button and the mains plug of a machine.

    Args:
        machine: its lifecycle.
    """

    def __init__(self, machine: MachineLifecycle) -> None:
        self._machine = machine

    def reboot(self, timeout: float | None) -> None:
        """See :meth:`core_infra.vm.Machine.reboot`."""
        process = self._running()
        default = timeouts.scaled(_SHUTDOWN) + boot_limit(process.spec.image)
        limit = default if timeout is None else timeouts.limit(timeout, 0)

        def ask() -> None:
            self._ask_guest(process, "reboot", limit)

        self._restart(process, ask, limit)

    def reset(self, timeout: float | None) -> None:
        """See :meth:`core_infra.vm.Machine.reset`."""
        process = self._running()
        limit = boot_limit(process.spec.image, timeout)
        self._restart(process, lambda: process.qmp.post("system_reset"), limit)

    def power_off(self, timeout: float | None) -> None:
        """See :meth:`core_infra.vm.Machine.power_off`."""
        process, limit = self._running(), timeouts.limit(timeout, _SHUTDOWN)
        self._machine.agent()
        with self._machine.powering_down(), process.agent.working():
            deadline = time.monotonic() + limit
            self._ask_guest(process, "poweroff", limit)
            try:
                process.child.wait(max(deadline - time.monotonic(), 0.0))
            except TimeoutExpiredError as error:
                raise TimeoutExpiredError(
                    f"machine {process.spec.name} did not power off within {limit:.0f} s",
                    why=f"its guest still runs; the console's last lines:\n"
                    f"{process.console.tail(TAIL_LINES)}",
                    todo="power_cut() does not ask the guest.",
                    timeout=limit,
                ) from error
            process.end()

    def poweroff(self, timeout: float | None) -> None:
        """See :meth:`core_infra.vm.Machine.poweroff`."""
        agent, limit = self._machine.agent(), timeouts.limit(timeout, _POWEROFF)
        process = self._running()
        with self._machine.powering_down():
            agent.poweroff()
            process.child.wait(limit)
        self._machine.stop()

    def power_cut(
        self, until: str | re.Pattern[str] | Waitable | None, timeout: float | None
    ) -> None:
        """See :meth:`core_infra.vm.Machine.power_cut`."""
        process = self._machine.process
        if until is not None:
            _await(process, until, timeouts.limit(timeout, 30))
        with self._machine.powering_down():
            process.end("its power was cut")
            for disk in process.disks:
                if disk.volatile:
                    unflushed.discard(disk.path)

    def power_on(self, timeout: float | None) -> None:
        """See :meth:`core_infra.vm.Machine.power_on`."""
        self._machine.power_on(boot_limit(self._machine.spec.image, timeout))

    def _running(self) -> VmmProcess:
        """The process of a machine whose guest can do something."""
        process = self._machine.process
        if self._machine.pause is not None:
            raise self._machine.pause
        self._machine.faults.require_awake(f"cannot restart machine {process.spec.name}")
        return process

    def _ask_guest(self, process: VmmProcess, what: str, limit: float) -> None:
        """Have the guest's own init do it; without one that can, the agent writes all back."""
        agent = process.agent
        try:
            done = Guest(lambda: agent).exec(["/bin/sh", "-c", _ASK.format(what)], timeout=limit)
        except GuestGoneError:  # it is under way
            return
        if done.exit_code > 0:
            agent.poweroff(restart=what == "reboot")

    def _restart(self, process: VmmProcess, trigger: Callable[[], None], limit: float) -> None:
        deadline = time.monotonic() + limit
        self._machine.agent()  # a guest that still boots does not understand
        restarted = Latch()
        with self._machine.on_restart(restarted.set), process.agent.working():
            trigger()
            if not restarted.wait(max(deadline - time.monotonic(), 0.0)):
                raise TimeoutExpiredError(
                    f"machine {process.spec.name} did not restart within {limit:.0f} s",
                    why=f"its guest still runs; the console's last lines:\n"
                    f"{process.console.tail(TAIL_LINES)}",
                    todo="reset() does not ask the guest.",
                    timeout=limit,
                )
        try:
            self._machine.agent(max(deadline - time.monotonic(), 0.0))
        except AgentGoneError as error:
            raise TimeoutExpiredError(
                f"machine {process.spec.name} did not boot again within {limit:.0f} s",
                why=f"the console's last lines:\n{process.console.tail(TAIL_LINES)}",
                timeout=limit,
            ) from error


def _await(process: VmmProcess, until: str | re.Pattern[str] | Waitable, limit: float) -> None:
    if isinstance(until, str) or (isinstance(until, re.Pattern) and isinstance(until.pattern, str)):
        found = _printed(process, until, limit)
    elif callable(getattr(until, "wait", None)):
        found = until.wait(limit)
    else:
        raise InvalidError(
            f"cannot cut the power at {until!r}",
            todo="Give a text or a compiled regular expression of the console, or an event.",
        )
    if not found:
        raise TimeoutExpiredError(
            f"waited {limit:.1f} s to cut the power of machine {process.spec.name}",
            why=f"{until!r} did not come; the machine still runs",
            timeout=limit,
        )


def _printed(process: VmmProcess, until: str | re.Pattern[str], limit: float) -> bool:
    """Wait until the console has printed something since the power was switched on."""
    pattern = re.compile(re.escape(until)) if isinstance(until, str) else until
    deadline = time.monotonic() + limit
    offset, printed = process.console.begun, b""
    while not pattern.search(printed.decode("utf-8", "replace").replace("\r\n", "\n")):
        data = process.console.read(offset, _READ, max(deadline - time.monotonic(), 0.0))
        if data is None:
            raise process.gone()
        if not data:
            return False
        offset += len(data)
        printed = printed[-_READ:] + data
    return True
