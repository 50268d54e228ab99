"""A machine as users hold it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from core_infra.vm import _timeouts as timeouts
from core_infra.vm._console import ConsoleSpawn
from core_infra.vm._faults.clock import MachineClock
from core_infra.vm._faults.disk import MachineDisk, number_of
from core_infra.vm._faults.guest import MachineMemory, MachineProcessors, Paused
from core_infra.vm._guest.guest import Guest
from core_infra.vm._images.image import Image
from core_infra.vm._machine_power import MachinePower
from core_infra.vm._machine_record import MachineRecord
from core_infra.vm._vmm_process import TAIL_LINES

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from core_infra.vm._async_machine import AsyncMachine
    from core_infra.vm._faults.registry import MachineFault
    from core_infra.vm._io_pause import MachinePausedError
    from core_infra.vm._machine_lifecycle import MachineLifecycle
    from core_infra.vm._machine_power import Waitable
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._machine_state import Status
    from core_infra.vm._ssh_login import SshLogin


class Machine(Guest):
    """A disposable Linux machine.

    Made by ``Launcher.boot``, ``Launcher.clone`` or the fixtures, running. As a context manager it
    stops at the end of the block.

    Attributes:
        history: the last commands with their results, newest last. All attempts of a call that
            waits are one step, a :class:`WaitResult`.
    """

    def __init__(self, lifecycle: MachineLifecycle) -> None:
        image = lifecycle.spec.image
        super().__init__(
            lifecycle.agent,
            needs_greeting=lambda: lifecycle.needs_greeting,
            run_config=image.run if isinstance(image, Image) else None,
        )
        self._lifecycle = lifecycle
        self._power = MachinePower(lifecycle)
        self._console: ConsoleSpawn | None = None
        self._record = MachineRecord(lifecycle, self._timeline)

    @functools.cached_property
    def aio(self) -> AsyncMachine:
        """The same for asyncio: ``await machine.aio.exec(...)``; no thread waits meanwhile."""
        from core_infra.vm._async_machine import AsyncMachine  # noqa: PLC0415 - imports asyncio

        return AsyncMachine(self, self._calls)

    @property
    def spec(self) -> MachineSpec:
        """What it is made of: image, memory (MiB), cpus, disks."""
        return self._lifecycle.spec

    @property
    def name(self) -> str:
        """Its name, unique within the run."""
        return self.spec.name

    @property
    def directory(self) -> Path:
        """Its files on this host, among them ``console.log``."""
        return self._lifecycle.directory

    @property
    def boot_seconds(self) -> float:
        """Seconds from the start to the agent's answer."""
        return self._lifecycle.boot_seconds

    @property
    def guest_info(self) -> Mapping[str, str]:
        """What the agent reports of the guest: ``kernel``, ``arch``, ``boot_id``, …."""
        return self._lifecycle.guest_info

    @property
    def pid(self) -> int:
        """The process id of the hypervisor that runs it."""
        return self._lifecycle.last_process.child.pid

    @property
    def status(self) -> Status:
        """Its state."""
        return self._lifecycle.status

    @property
    def pause_reason(self) -> MachinePausedError | None:
        """Why the host has paused it: the disk that cannot be written, and the room; or None."""
        return self._lifecycle.pause

    @property
    def clock(self) -> MachineClock:
        """The guest's clock: ``machine.clock.jump(3600)``, ``machine.clock.skew(1.01)``."""
        return MachineClock(self._lifecycle.faults, self._timeline)

    @property
    def memory(self) -> MachineMemory:
        """Its memory: ``machine.memory.pressure(free=16)``."""
        return MachineMemory(self._lifecycle.faults)

    @property
    def cpu(self) -> MachineProcessors:
        """Its processors: ``machine.cpu.stuck(0)``."""
        return MachineProcessors(self._lifecycle.faults, self.spec.cpus)

    def disk(self, name: str) -> MachineDisk:
        """One of its disks: ``machine.disk("vdb").fail(read=errno.EIO)``.

        Args:
            name: the guest's name of it: ``vda``, ``vdb``, ….

        Raises:
            NotFoundError: it has no such disk.
            MachineStateError: the machine does not run.
        """
        faults = self._lifecycle.faults
        return MachineDisk(name, number_of(name, self._lifecycle.process), faults)

    def active_faults(self) -> list[str]:
        """The faults of its hardware that are active, oldest first, in words."""
        return self._lifecycle.faults.descriptions()

    def last_faults(self) -> list[MachineFault]:
        """The last faults of its hardware, active or not, newest last."""
        return list(self._lifecycle.faults.history)

    def pause(self) -> MachineFault:
        """Stop the machine's processors until :meth:`resume`, or the end of the ``with`` block.

        Calls that need the guest wait meanwhile, until they time out. The guest's clock stands
        still, and is behind afterwards.

        Raises:
            MachineStateError: the machine does not run.
        """
        return self._lifecycle.faults.begin("paused", Paused(self._lifecycle.faults))

    def resume(self) -> None:
        """Let a machine continue after :meth:`pause`; does nothing if it is not paused."""
        self._lifecycle.faults.end_all(Paused)

    @property
    def console(self) -> ConsoleSpawn:
        """The serial console as a pexpect object, from the first byte; always the same one.

        On the default image a root shell waits there with the prompt ``core-infra:~# ``.
        """
        if self._console is None:
            self._console = ConsoleSpawn(
                lambda: self._lifecycle.last_process.console, timeout=timeouts.scaled(10)
            )
        return self._console

    @overload
    def logs(self, *, follow: Literal[False] = False) -> str: ...
    @overload
    def logs(self, *, follow: Literal[True], timeout: float | None = None) -> Iterator[str]: ...
    def logs(self, *, follow: bool = False, timeout: float | None = None) -> str | Iterator[str]:
        """What the console has printed.

        Args:
            follow: return an iterator over its lines, old and new, until the machine has ended.
            timeout: with *follow*, end after this many seconds without output.
        """
        console = self._lifecycle.last_process.console
        if not follow:
            return console.text()
        return console.follow(None if timeout is None else timeouts.limit(timeout, 0))

    def console_tail(self, lines: int = TAIL_LINES) -> str:
        """The console's last lines; InvalidError unless *lines* is a positive number."""
        return self._lifecycle.last_process.console.tail(lines)

    def panic(self) -> str | None:
        """The guest kernel's message if it panicked, else None."""
        return self._lifecycle.last_process.console.panic()

    def port(self, number: int) -> int:
        """The port on this host's 127.0.0.1 that leads to TCP port *number* of the guest.

        The system chooses it at the first call; it stays the same, also when the machine is
        reverted. The guest's server must listen on its network address, not only on its loopback.

        Raises:
            InvalidError: *number* is not a port number.
            MachineStateError: the machine does not run.
        """
        with self._timeline.step("port", str(number)) as step:
            found = self._lifecycle.port(number)
            step.what = f"{number} of the guest is 127.0.0.1:{found}"
        return found

    def ssh(self, user: str = "root", *, port: int = 22) -> SshLogin:
        """A login by SSH, where the guest runs an SSH server; tried once before it is returned.

        The machine gets a key of its own, which is added to the user's ``authorized_keys``::

            login = machine.ssh()
            subprocess.run(login.command("uname -r"), check=True)

        Call it again after :meth:`revert`, which also takes back the key.

        Args:
            user: the user to log in as.
            port: the guest's port that the server listens on.

        Raises:
            NoAccessError: nothing listens there, or the server does not let the user in.
            UnavailableError: asyncssh is not installed, which makes the key
                (``pip install core-infra[ssh]``).
        """
        from core_infra.vm._ssh_login import log_in  # noqa: PLC0415 - imports asyncssh, if there

        return log_in(self, user, port, self._run)

    def testinfra(self, user: str = "") -> Any:
        """The machine as a ``testinfra.host.Host``: ``host.file("/etc/passwd").exists``, ….

        Args:
            user: the user that its commands run as, a name or a number; default: root.

        Raises:
            UnavailableError: pytest-testinfra is not installed.
        """
        from core_infra.vm._testinfra import host  # noqa: PLC0415 - needs testinfra

        return host(self, self.name, user)

    def shell(self, user: str = "") -> int:
        """Open a shell in the machine on this terminal; returns its exit code.

        It needs neither a network nor SSH. ``exit`` or Ctrl-] returns. It can be called from a test
        or a debugger, also while pytest captures output.

        Args:
            user: the user who it runs as, a name or a number; default: root.

        Raises:
            UnavailableError: there is no terminal, as in a worker of pytest-xdist.
            MachineStateError: the machine does not run.
        """
        from core_infra.vm._guest.terminal import run_shell  # noqa: PLC0415 - few tests use it

        with self._timeline.step("shell", ""), self._lifecycle.terminal():
            print(f"core-infra: a shell in {self.name}; exit or Ctrl-] returns", flush=True)  # noqa: T201 - to the user's terminal
            return run_shell(self._lifecycle.agent(), user=user, config=self._calls.run_config)

    def snapshot(self, name: str) -> None:
        """Remember the machine as it is now, to return to with :meth:`revert`.

        Memory, files, processes: everything. What runs in the guest does not notice. A snapshot
        lives as long as the machine; a new one of the same name replaces it.

        Raises:
            InvalidError: *name* is not a name.
            MachineStateError: the machine does not run.
            UnavailableError: it cannot be saved; it continues to run.
        """
        with self._timeline.step("snapshot", str(name)):
            self._lifecycle.snapshots.take(name)

    def revert(self, name: str | None = None) -> None:
        """Return the machine, in place, to an earlier state: memory, files, processes.

        Commands under way end with GuestGoneError. The object stays the same, and so does the
        console, whose log continues below a line that reports the return.

        Args:
            name: of a :meth:`snapshot`; None is the initial state, in which the test got it (not
                available after a cold boot).

        Raises:
            NotFoundError: there is no such snapshot, or no initial state.
            MachineStateError: the machine was stopped.
        """
        with self._timeline.step("revert", "the initial state" if name is None else str(name)):
            self._lifecycle.snapshots.revert(name)

    def reboot(self, *, timeout: float | None = None) -> None:
        """Have the guest restart in order, and wait until it is up again.

        Disks keep what was written; memory does not, and with it the default image's files.
        Commands under way end with GuestGoneError. Ports, console and networks stay.

        Args:
            timeout: seconds until it must be up again.

        Raises:
            TimeoutExpiredError: it is not up in time; says how far it came.
            GuestGoneError: the machine ended, such as by a kernel panic.
            MachineStateError: the machine does not run.
        """
        with self._timeline.step("reboot", ""):
            self._power.reboot(timeout)

    def reset(self, *, timeout: float | None = None) -> None:
        """Press the reset button, and wait until the guest is up again.

        The guest is not asked, so what it has not written to its disks is lost. What it has
        written and not flushed stays: a disk keeps its cache. Otherwise as :meth:`reboot`.
        """
        with self._timeline.step("reset", ""):
            self._power.reset(timeout)

    def power_off(self, *, timeout: float | None = None) -> None:
        """Have the guest shut down in order, and wait until the machine is off.

        Its state is then ``Status.OFF``, and :meth:`power_on` boots it again.

        Raises:
            TimeoutExpiredError: the guest still runs after *timeout* seconds.
            MachineStateError: the machine does not run.
        """
        with self._timeline.step("power off", ""):
            self._power.power_off(timeout)

    def power_cut(
        self,
        *,
        until: str | re.Pattern[str] | Waitable | None = None,
        timeout: float | None = None,
    ) -> None:
        """Cut the power. What the guest has written to its disks and not flushed is lost.

        A disk has a volatile write cache: a write survives only if the guest flushed the disk after
        it, as ``fsync`` does. :meth:`power_on` boots the machine again::

            with machine.stream("writer"):
                machine.power_cut(until="checkpoint 3 begins")
            machine.power_on()

        Args:
            until: when: as soon as the console has printed this text, or what matches this regular
                expression, since the power was last switched on; or when this event is set. None:
                now.
            timeout: seconds to wait for *until*.

        Raises:
            TimeoutExpiredError: *until* did not come in time; the machine still runs.
            GuestGoneError: the machine ended meanwhile.
            MachineStateError: the machine does not run.
        """
        with self._timeline.step("power cut", "" if until is None else f"until {until!r}"):
            self._power.power_cut(until, timeout)

    def power_on(self, *, timeout: float | None = None) -> None:
        """Boot the machine from its disks when it is off, or has failed, and wait for its agent.

        The console continues in the same log; forwarded ports are the same.

        Raises:
            BootError: it did not come up; it is off as before.
            MachineStateError: the machine is not off.
        """
        with self._timeline.step("power on", ""):
            self._power.power_on(timeout)

    def poweroff(self, *, timeout: float | None = None) -> None:
        """Make the guest write its disks back and power itself off, and end the machine.

        After :meth:`power_off`, it can be started again.
        """
        with self._timeline.step("power off", ""):
            self._power.poweroff(timeout)

    def stop(self) -> None:
        """End the machine at once; a second call does nothing.

        The guest is not asked: this machine is disposable, and its disks are removed with it. Use
        :meth:`poweroff` where the guest's own shutdown matters.
        """
        with self._timeline.step("stop", ""):
            self._lifecycle.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Machine {self.name} {self._lifecycle.status.value}>"


def record_of(machine: Machine) -> MachineRecord:
    """What a machine did and what has changed in it, for the report of a failed test."""
    return machine._record  # noqa: SLF001 - not for users
