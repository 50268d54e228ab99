"""A live machine: its state, its inside, its console, its end."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from core_infra.errors import WrongStateError
from core_infra.vm.console import ConsoleSpawn
from core_infra.vm.guest.client import GuestGoneError
from core_infra.vm.guest.command import describe_exit
from core_infra.vm.guest.guest import Guest
from core_infra.vm.timeouts import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from core_infra.process.child import Child
    from core_infra.vm.console import Console
    from core_infra.vm.guest.client import AgentClient
    from core_infra.vm.hypervisors.hypervisor import MachineSpec
    from core_infra.vm.hypervisors.qmp import Qmp

_GRACE = 2.0
_TAIL_LINES = 30


class Status(enum.Enum):
    """The states of a machine."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    DETACHED = "detached"


_TRANSITIONS = {
    Status.STARTING: {Status.RUNNING, Status.STOPPING, Status.FAILED},
    Status.RUNNING: {Status.STOPPING, Status.FAILED, Status.DETACHED},
    Status.STOPPING: {Status.STOPPED},
    Status.STOPPED: set[Status](),
    Status.FAILED: {Status.STOPPING},
    Status.DETACHED: set[Status](),
}


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
    """

    def __init__(
        self, spec: MachineSpec, child: Child, qmp: Qmp, agent: AgentClient, console: Console
    ) -> None:
        super().__init__()
        self.spec = spec
        self.directory: Path = console.path.parent
        self.boot_seconds = 0.0
        self.guest_info: Mapping[str, str] = {}
        self._child = child
        self._qmp = qmp
        self._agent = agent
        self._log = console
        self._console: ConsoleSpawn | None = None
        self._status = Status.STARTING
        self._lock = threading.RLock()
        # Not the one above: the supervisor takes that, and must go on to bring the answer.
        self._session_lock = threading.Lock()
        qmp.on_event("VSERPORT_CHANGE", self._port_changed)
        child.on_exit(self._ended)

    @property
    def name(self) -> str:
        """Its name, unique within the run."""
        return self.spec.name

    @property
    def pid(self) -> int:
        """The process id of the hypervisor that runs it."""
        return self._child.pid

    @property
    def status(self) -> Status:
        """What state it is in."""
        return self._status

    @property
    def agent(self) -> AgentClient:
        """The connection to the guest's agent; MachineStateError unless the machine runs."""
        self._require(Status.RUNNING)
        if self._agent.lost:  # the agent ended; the guest's init has started it again
            with self._session_lock:
                if self._agent.lost:
                    self.begin_session(scaled(10))
        return self._agent

    @property
    def console(self) -> ConsoleSpawn:
        """The serial console as a pexpect object, from the first byte; always the same one.

        A root shell waits there with the prompt ``core-infra:~# `` on the default image.
        """
        if self._console is None:
            self._console = ConsoleSpawn(self._log, timeout=scaled(10))
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
        return self._log.follow(timeout) if follow else self._log.text()

    def console_tail(self, lines: int = _TAIL_LINES) -> str:
        """The console's last lines."""
        return self._log.tail(lines)

    def panic(self) -> str | None:
        """The guest kernel's own sentence, if it panicked."""
        return self._log.panic()

    def poweroff(self, *, timeout: float | None = None) -> None:
        """Make the guest write its disks back and power itself off, and wait for that."""
        agent = self.agent
        self._move(Status.STOPPING)
        agent.poweroff()
        self._child.wait(scaled(5) if timeout is None else timeout)
        self.stop()

    def stop(self) -> None:
        """End the machine, now; a second call does nothing.

        The guest is not asked: this machine is disposable, and its disks go with it. Use
        :meth:`poweroff` where the guest's own shutdown matters.
        """
        with self._lock:
            if self._status in (Status.STOPPED, Status.DETACHED):
                return
            if self._status is not Status.STOPPING:
                self._move(Status.STOPPING)
        self._child.stop(ask=lambda: self._qmp.post("quit"), grace=_GRACE)
        self._disconnect()
        with self._lock:
            if self._status is Status.STOPPING:  # else another thread stopped it as well
                self._move(Status.STOPPED)

    def detach(self) -> None:
        """Let go of the machine: it runs on, and this handle is of no more use."""
        self._move(Status.DETACHED)
        self._disconnect()

    def begin_session(self, timeout: float) -> None:
        """Wait for the guest's agent and set the guest's clock and entropy; for launchers."""
        self.guest_info = self._agent.hello(timeout).info

    def running(self, boot_seconds: float) -> None:
        """It has come up; for launchers."""
        self.boot_seconds = boot_seconds
        self._move(Status.RUNNING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Machine {self.name} {self._status.value}>"

    def _disconnect(self) -> None:
        for part in (self._qmp, self._agent, self._log):
            part.close()

    def _ended(self, exit_code: int) -> None:
        with self._lock:
            asked = self._status in (Status.STOPPING, Status.DETACHED)
            if not asked:
                self._move(Status.FAILED)
        self._log.drain()
        self._agent.fail(self._gone("it was stopped" if asked else describe_exit(exit_code)))

    def _port_changed(self, data: dict[str, Any]) -> None:
        if not data.get("open") and self._status is Status.RUNNING:
            self._agent.lose_session(
                GuestGoneError(
                    f"the agent in machine {self.name} has ended",
                    why="it was killed in the guest, or the guest is going down",
                )
            )

    def _gone(self, how: str) -> GuestGoneError:
        why = self._log.panic() or how
        return GuestGoneError(
            f"machine {self.name} has ended",
            why=f"{why}; the console's last lines:\n{self.console_tail()}",
        )

    def _require(self, needed: Status) -> None:
        if self._status is Status.FAILED:
            raise self._gone("by itself")
        if self._status is not needed:
            raise MachineStateError(
                f"machine {self.name} is {self._status.value}",
                why=f"this needs one that is {needed.value}",
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
