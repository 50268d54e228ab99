"""A live machine: its state, its inside, its console, its end."""

from __future__ import annotations

import contextlib
import enum
import threading
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, overload

from core_infra.errors import InvalidError, NotFoundError, TimeoutExpiredError, WrongStateError
from core_infra.vm import _port_forwarding, _timeouts
from core_infra.vm._console import ConsoleSpawn
from core_infra.vm._guest.client import AgentGoneError, GuestGoneError
from core_infra.vm._guest.guest import Guest
from core_infra.vm._vmm_process import TAIL_LINES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._hypervisors.disposable import MachineSpec
    from core_infra.vm._hypervisors.qmp import Qmp
    from core_infra.vm._io_pause import MachinePausedError
    from core_infra.vm._snapshots.clone_source import Template
    from core_infra.vm._ssh_login import SshLogin
    from core_infra.vm._vmm_process import VmmProcess


_RESTART = 10.0
"""Seconds, before scaling, in which an agent that has ended must be back."""


class Status(enum.Enum):
    """The states of a machine.

    It is PAUSED while this host has no room for what it writes, and RUNNING again when there is;
    whatever may be done with a machine that runs may be done then, too.
    """

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    DETACHED = "detached"


_TRANSITIONS = {
    Status.STARTING: {Status.RUNNING, Status.STOPPING},
    # Back to STARTING: it is reverted.
    Status.RUNNING: {Status.STOPPING, Status.FAILED, Status.DETACHED, Status.STARTING},
    Status.STOPPING: {Status.STOPPED},
    Status.STOPPED: set[Status](),
    Status.FAILED: {Status.STOPPING, Status.STARTING},
    Status.DETACHED: set[Status](),
}


class Ending(NamedTuple):
    """Who ended a machine; the errors of later calls say it.

    Attributes:
        by: for example ``test_a.py::test_one (call)``.
        todo: what to use instead of a machine that was ended so.
    """

    by: str
    todo: str = ""


class Snapshotter(Protocol):
    """What makes templates of machines, and machines of templates."""

    def freeze(self, instance: VmmProcess) -> Template:
        """A template of a running machine as it is now; the machine goes on."""

    def clone(
        self, template: Template, directory: Path, name: str, past: bytes
    ) -> tuple[VmmProcess, Mapping[str, str]]:
        """A clone, awake and proven, and what its agent says of the guest."""


def _check_word(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidError(f"cannot name a snapshot {name!r}", todo="Give it a word.")


def _has_panicked(instance: VmmProcess) -> bool:
    instance.console.drain()  # QEMU has sent all that was printed before it sent its event
    return instance.console.panic() is not None


class MachineStateError(WrongStateError):
    """The machine is not in the state that a call needs."""


class Machine(Guest):
    """A disposable Linux machine.

    Made by ``Launcher.boot`` or the fixtures, running. As a context manager it stops at the end
    of the block.

    Attributes:
        spec: its name, image, memory (MiB) and cpus.
        directory: its files on this host, among them ``console.log``.
        boot_seconds: how long it took from the start to the agent's answer.
        guest_info: what the agent says of the guest: ``kernel``, ``arch``, ``boot_id``, ….
        witness: returns who is at work in this process, for :class:`Ending`; None if unknown.
    """

    def __init__(
        self,
        spec: MachineSpec,
        instance: VmmProcess,
        keeper: Snapshotter,
        origin: Template | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.directory: Path = instance.directory
        self.boot_seconds = 0.0
        self.guest_info: Mapping[str, str] = {}
        self.witness: Callable[[Machine], Ending | None] = lambda _machine: None
        self._ending: Ending | None = None
        self._instance = instance
        self._keeper = keeper
        self._origin = origin
        self._snapshots: dict[str, Template] = {}
        self._ports: dict[int, int] = {}
        self._listener: Callable[[str], None] = lambda _line: None
        self._console: ConsoleSpawn | None = None
        self._status = Status.STARTING
        self._lock = threading.RLock()
        # Not the one above: the supervisor takes that, and must go on to bring the answer.
        self._session_lock = threading.Lock()
        self._watch(instance)

    @property
    def name(self) -> str:
        """Its name, unique within the run."""
        return self.spec.name

    @property
    def pid(self) -> int:
        """The process id of the hypervisor that runs it."""
        return self._instance.child.pid

    @property
    def status(self) -> Status:
        """What state it is in."""
        is_paused = self._status is Status.RUNNING and self.pause is not None
        return Status.PAUSED if is_paused else self._status

    @property
    def pause(self) -> MachinePausedError | None:
        """Why it is paused: which disk cannot be written, and how much room there is; or None."""
        return self._instance.stall.error

    def on_pause(self, listener: Callable[[str], None]) -> None:
        """Call *listener* with a line, on the supervisor's thread, when it is paused or goes on."""
        self._listener = listener

    @property
    def agent(self) -> AgentClient:
        """The connection to the guest's agent; MachineStateError unless the machine runs."""
        self._require(Status.RUNNING)
        if self._instance.agent.lost:  # the agent ended; the guest's init has started it again
            with self._session_lock:
                if self._instance.agent.lost:
                    self._greet()
        return self._instance.agent

    @property
    def needs_greeting(self) -> bool:
        """Whether the agent has ended, so that the next command first waits for its return."""
        return self._instance.agent.lost

    @property
    def console(self) -> ConsoleSpawn:
        """The serial console as a pexpect object, from the first byte; always the same one.

        A root shell waits there with the prompt ``core-infra:~# `` on the default image.
        """
        if self._console is None:
            self._console = ConsoleSpawn(
                lambda: self._instance.console, timeout=_timeouts.scaled(10)
            )
        return self._console

    @overload
    def logs(self, *, follow: Literal[False] = False) -> str: ...
    @overload
    def logs(self, *, follow: Literal[True], timeout: float | None = None) -> Iterator[str]: ...
    def logs(self, *, follow: bool = False, timeout: float | None = None) -> str | Iterator[str]:
        """What the console has printed.

        Args:
            follow: an iterator over its lines, the coming ones too, until the machine has ended.
            timeout: with *follow*, end after this many seconds without anything new.
        """
        return self._instance.console.follow(timeout) if follow else self._instance.console.text()

    def console_tail(self, lines: int = TAIL_LINES) -> str:
        """The console's last lines."""
        return self._instance.console.tail(lines)

    def panic(self) -> str | None:
        """The guest kernel's own sentence, if it panicked."""
        return self._instance.console.panic()

    def port(self, number: int) -> int:
        """The port on this host's 127.0.0.1 that leads to TCP port *number* of the guest.

        The system chooses it at the first call; it stays the same, also when the machine is
        reverted. The guest's server must listen on its network address, not only on its loopback.

        Raises:
            InvalidError: there is no such port.
            MachineStateError: the machine does not run.
        """
        self._require(Status.RUNNING)
        with self._session_lock:
            if number not in self._ports:
                self._ports[number] = _port_forwarding.forward(self._instance.qmp, number)
            return self._ports[number]

    def ssh(self, user: str = "root", *, port: int = 22) -> SshLogin:
        """A login by SSH, where the guest runs an SSH server; tried once before it is returned.

        The machine gets a key of its own, which is added to the user's ``authorized_keys``::

            login = machine.ssh()
            subprocess.run(login.command("uname -r"), check=True)

        Call it again after :meth:`revert`, which also takes back the key.

        Args:
            user: who logs in.
            port: of the guest, that the server listens on.

        Raises:
            NoAccessError: nothing listens there, or the server does not let the user in.
            UnavailableError: asyncssh is not installed, which makes the key
                (``pip install core-infra[ssh]``).
        """
        from core_infra.vm._ssh_login import log_in  # noqa: PLC0415 - who uses it pays for it

        return log_in(self, user, port, self._run)

    def testinfra(self, user: str = "") -> Any:
        """The machine as a ``testinfra.host.Host``: ``host.file("/etc/passwd").exists``, ….

        Args:
            user: whom its commands run as, a name or a number; root if not given.

        Raises:
            UnavailableError: pytest-testinfra is not installed.
        """
        from core_infra.vm._testinfra import host  # noqa: PLC0415 - who uses it pays for it

        return host(self, self.name, user)

    def poweroff(self, *, timeout: float | None = None) -> None:
        """Make the guest write its disks back and power itself off, and wait for that."""
        agent, limit = self.agent, _timeouts.limit(timeout, 5)
        if self.pause is not None:
            raise self.pause
        self._ending = self.witness(self)
        self._move(Status.STOPPING)
        agent.poweroff()
        self._instance.child.wait(limit)
        self.stop()

    def stop(self, ending: Ending | None = None) -> None:
        """End the machine, now; a second call does nothing.

        The guest is not asked: this machine is disposable, and its disks go with it. Use
        :meth:`poweroff` where the guest's own shutdown matters.

        Args:
            ending: who ends it, for the errors of later calls; None asks the witness.
        """
        with self._lock:
            if self._status in (Status.STOPPED, Status.DETACHED):
                return
            if self._status is not Status.STOPPING:
                self._ending = ending or self.witness(self)
                self._move(Status.STOPPING)
        self._instance.end()
        self._forget()
        with self._lock:
            if self._status is Status.STOPPING:  # else another thread stopped it as well
                self._move(Status.STOPPED)

    def detach(self) -> None:
        """Let go of the machine: it runs on, and this handle is of no more use.

        Its console and its agent are at the sockets ``console.sock`` and ``agent.sock`` in its
        directory from now on.
        """
        self._require(Status.RUNNING)
        self._instance.expose()
        self._move(Status.DETACHED)
        self._instance.disconnect()
        self._forget()

    def snapshot(self, name: str) -> None:
        """Remember the machine as it is now: :meth:`revert` takes it back to that, by *name*.

        Memory, files, processes: everything. What runs in it does not notice. A snapshot lives as
        long as the machine; one of the same name is replaced.

        Raises:
            InvalidError: that is no name.
            MachineStateError: it does not run.
            UnavailableError: it cannot be saved; it goes on running.
        """
        _check_word(name)
        self._require(Status.RUNNING)
        with self._without_ports(self._instance.qmp):
            template = self._keeper.freeze(self._instance)
        former = self._snapshots.pop(name, None)
        self._snapshots[name] = template
        if former is not None:
            former.close()

    def revert(self, name: str | None = None) -> None:
        """Take the machine back, in place, to what it was: memory, files, processes.

        Commands under way end with GuestGoneError. The handle stays the same, and so does the
        console, whose log goes on below a line that tells of the return.

        Args:
            name: of a :meth:`snapshot`; None is the machine as the test got it.

        Raises:
            NotFoundError: there is no such snapshot, or no start to go back to, since the machine
                was booted cold.
            MachineStateError: the machine was stopped.
        """
        template = self._origin if name is None else self._snapshots.get(name)
        if template is None:
            raise self._nothing_to_revert_to(name)
        if self._status is Status.FAILED:
            self._move(Status.STARTING)
        else:
            self._require(Status.RUNNING)
            self._move(Status.STARTING)
        former, what = self._instance, "its start" if name is None else f"the snapshot {name!r}"
        former.end()
        line = f"\n[core-infra: reverted to {what}]\n".encode()
        try:
            instance, info = self._keeper.clone(template, self.directory, self.name, line)
        except BaseException:
            self._move(Status.STOPPING)
            self.stop()
            raise
        for number, host in self._ports.items():
            _port_forwarding.forward(instance.qmp, number, host=host)
        self._instance = instance
        self._ending = None
        self.guest_info = info
        self._watch(instance)
        self._move(Status.RUNNING)

    @property
    def instance(self) -> VmmProcess:
        """The hypervisor that runs it; for launchers. MachineStateError unless it runs."""
        self._require(Status.RUNNING)
        return self._instance

    def running(self, seconds: float, info: Mapping[str, str]) -> None:
        """It has come up; for launchers."""
        self.boot_seconds = seconds
        self.guest_info = info
        self._instance.qmp.post("set-action", reboot="reset")
        self._move(Status.RUNNING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Machine {self.name} {self._status.value}>"

    def _greet(self) -> None:
        limit = _timeouts.scaled(_RESTART)
        try:
            self.guest_info = self._instance.agent.hello(limit).info
        except GuestGoneError:
            self._require(Status.RUNNING)  # what it raises says more
            raise
        except TimeoutExpiredError as error:
            raise AgentGoneError(
                f"the agent in machine {self.name} has ended",
                why=f"it did not come back within {limit:.0f} s: the guest is rebooting, or "
                "nothing there starts the agent again",
                todo="wait_until_succeeds('true', timeout=…) waits for a guest that reboots.",
            ) from error
        self._ending = None

    def _watch(self, instance: VmmProcess) -> None:
        instance.qmp.on_event("VSERPORT_CHANGE", lambda data: self._port_changed(instance, data))
        instance.qmp.on_event("RESET", lambda _data: self._reset(instance))
        instance.on_end(lambda _exit_code: self._ended(instance))
        instance.on_pause(self._paused)

    def _paused(self) -> None:
        self._listener(str(self.pause or f"machine {self.name} goes on: there is room again"))

    @contextlib.contextmanager
    def _without_ports(self, qmp: Qmp) -> Iterator[None]:
        """No snapshot has ports: two machines cannot listen on one. Open connections stay."""
        for host in self._ports.values():
            _port_forwarding.withdraw(qmp, host)
        try:
            yield
        finally:
            for number, host in self._ports.items():
                _port_forwarding.forward(qmp, number, host=host)

    def _forget(self) -> None:
        """Drop the snapshots of a machine that is no more."""
        while self._snapshots:
            self._snapshots.popitem()[1].close()

    def _ended(self, instance: VmmProcess) -> None:
        with self._lock:
            if instance is self._instance and self._status is Status.RUNNING:
                self._ending = self._ending or self.witness(self)
                self._move(Status.FAILED)

    def _port_changed(self, instance: VmmProcess, data: dict[str, Any]) -> None:
        if not data.get("open") and self._status is Status.RUNNING:
            self._ending = self.witness(self)  # the machine may go down, a moment later
            if _has_panicked(instance):
                return  # it will end, which tells more
            instance.agent.lose_session(
                AgentGoneError(
                    f"the agent in machine {self.name} has ended",
                    why="it was killed in the guest, or the guest is going down",
                )
            )

    def _reset(self, instance: VmmProcess) -> None:
        """The guest restarts: it reboots, or it has panicked, which is the machine's end."""
        if _has_panicked(instance):
            instance.qmp.post("quit")

    def _nothing_to_revert_to(self, name: str | None) -> NotFoundError:
        if name is None:
            return NotFoundError(
                f"machine {self.name} has no start to go back to",
                why="it was booted cold",
                todo="Take a snapshot(name) when it is as you want it, and revert(name).",
            )
        known = ", ".join(map(repr, self._snapshots)) or "none"
        return NotFoundError(
            f"machine {self.name} has no snapshot {name!r}", why=f"there is {known}"
        )

    def _require(self, needed: Status) -> None:
        if self._status is Status.FAILED:
            error = self._instance.gone()
            if self._ending is not None:
                error.what += f" during {self._ending.by}"
            raise error
        if self._status is not needed:
            ending = self._ending
            raise MachineStateError(
                f"machine {self.name} is {self._status.value}",
                why=f"this needs one that is {needed.value}"
                + (f", and it was ended by {ending.by}" if ending else ""),
                todo=ending.todo if ending else "",
                needed=needed.value,
                found=self._status.value,
            )

    def _move(self, to: Status) -> None:
        with self._lock:
            if to not in _TRANSITIONS[self._status]:
                raise MachineStateError(
                    f"machine {self.name} cannot become {to.value}",
                    why=f"it is {self._status.value}",
                    needed=to.value,
                    found=self._status.value,
                )
            self._status = to
