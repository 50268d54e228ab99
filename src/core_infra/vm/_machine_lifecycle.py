"""The lifecycle of a machine: its states, the VMM process that runs it, its end."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import time
from core_infra.vm import _cold_restart as cold
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._agent_session import AgentSession
from core_infra.vm._faults.guest import Paused
from core_infra.vm._faults.registry import MachineFaults
from core_infra.vm._guest.connection import AgentGoneError
from core_infra.vm._machine_snapshots import MachineSnapshots, Snapshotter
from core_infra.vm._machine_state import TRANSITIONS, Ending, MachineStateError, Status
from core_infra.vm._network.membership import Memberships
from core_infra.vm._port_forwarding import ForwardedPorts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from core_infra.vm._faults.registry import MachineFault
    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._io_pause import MachinePausedError
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._snapshots.clone_source import CloneSource
    from core_infra.vm._vmm_process import VmmProcess


_RESTART = 10.0
"""Seconds, before scaling, in which a process must be there for a guest that restarts."""
_SKEW = 50_000_000  # nanoseconds that a guest's clock may be off this host's
COARSE = 250_000_000
"""Nanoseconds that the time of a file's change, which is a tick's, may be before the clock's: on a
busy host, the ticks of an emulated guest come late."""


def _clock(info: Mapping[str, str]) -> tuple[int, int]:
    # A clone's agent reports its clock after it was set; one that booted, before.
    now = time.time_ns()
    return (int(info["clock"]) if info.get("former") else now) - COARSE, now + _SKEW


class MachineLifecycle:
    """A machine as the launcher runs it; users hold a :class:`~core_infra.vm.Machine`.

    Args:
        spec: what it is made of.
        process: the VMM process that runs it.
        snapshotter: makes its snapshots.
        source: what it was cloned from; None: it was booted.
        networks: its cards on networks of the run.

    Attributes:
        spec: what it is made of.
        directory: its files on this host.
        boot_seconds: seconds from the start to the agent's answer.
        guest_info: what the agent reports of the guest.
        networks: its cards on networks of the run.
        snapshots: what it can return to.
        resumed_at: when it was started and handed out, and at each revert, in ns since 1970.
        witness: returns what is at work in this process, for :class:`Ending`; None if unknown.
        faults: the faults of its hardware that are active.
        terminal: within its block, this process's terminal can be used.
    """

    def __init__(
        self,
        spec: MachineSpec,
        process: VmmProcess,
        snapshotter: Snapshotter,
        source: CloneSource | None = None,
        networks: Memberships | None = None,
    ) -> None:
        self.networks = networks or Memberships()
        self.spec = spec
        self.directory: Path = process.directory
        self.boot_seconds = 0.0
        self.guest_info: Mapping[str, str] = {}
        self.witness: Callable[[], Ending | None] = lambda: None
        self.terminal: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
        self._ending: Ending | None = None
        self._process = process
        self._snapshotter = snapshotter
        self.snapshots = MachineSnapshots(self, snapshotter, source)
        self.resumed_at: list[tuple[int, int]] = []
        self._restart_listeners: list[Callable[[], None]] = []
        self._restart: cold.ColdRestart | None = None
        self.faults = MachineFaults(self)
        self._ports = ForwardedPorts()
        self._listener: Callable[[str], None] = lambda _line: None
        self._status = Status.STARTING
        self._lock = threading.RLock()
        self._session = AgentSession(lambda: self.process, self._session_begun)
        self._watch(process)

    @property
    def status(self) -> Status:
        """Its state."""
        is_paused = self.runs and (self.pause is not None or bool(self.faults.active(Paused)))
        return Status.PAUSED if is_paused else self._status

    @property
    def pause(self) -> MachinePausedError | None:
        """Why it is paused; None while it runs."""
        return self._process.pause.error

    @property
    def last_process(self) -> VmmProcess:
        """The VMM process that runs it, or ran it last."""
        return self._process

    @property
    def process(self) -> VmmProcess:
        """The VMM process that runs it; MachineStateError unless it runs."""
        self._require(Status.RUNNING)
        return self._process

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return self._status is Status.RUNNING

    @property
    def needs_greeting(self) -> bool:
        """Whether the agent has ended, so that :meth:`agent` first waits for its return."""
        return self._process.agent.lost

    def agent(self, limit: float | None = None) -> AgentClient:
        """The connection to the guest's agent; MachineStateError unless the machine runs.

        Args:
            limit: seconds in which an agent that has ended must be back.
        """
        return self._session.agent(limit)

    def on_pause(self, listener: Callable[[str], None]) -> None:
        """Call *listener* with a line, on the supervisor's thread, at each pause and its end."""
        self._listener = listener

    def started(self, seconds: float, info: Mapping[str, str]) -> None:
        """The agent has answered, after so many seconds."""
        self.boot_seconds = seconds
        self.guest_info = info
        self.resumed_at.append(_clock(info))
        cold.allow_restart(self._process)
        self._move(Status.RUNNING)
        self.networks.joined(self._agent_if_running)

    def port(self, number: int) -> int:
        """See :meth:`core_infra.vm.Machine.port`."""
        return self._ports.forward(self.process.qmp, number)

    def stop(self, ending: Ending | None = None) -> None:
        """End the machine; a second call does nothing.

        Args:
            ending: what ends it, for the errors of later calls; None asks the witness.
        """
        self._await_restart()
        with self._lock:
            if self._status in (Status.STOPPED, Status.DETACHED):
                return
            if self._status is not Status.STOPPING:
                self._ending = ending or self.witness()
                self._move(Status.STOPPING)
        self._process.end()
        self.networks.leave()
        self.snapshots.close()
        with self._lock:
            if self._status is Status.STOPPING:  # else another thread stopped it as well
                self._move(Status.STOPPED)

    def detach(self) -> None:
        """Release the machine: it continues to run, and this object can no longer control it.

        Its console and its agent are then at the sockets ``console.sock`` and ``agent.sock`` in
        its directory.
        """
        self._require(Status.RUNNING)
        self._process.expose()
        self._process.qmp.execute("set-action", reboot="reset")  # nobody would start another one
        self._process.qmp.execute("cont")  # virtual time may stand still
        self._move(Status.DETACHED)
        self._process.disconnect()
        self.snapshots.close()

    @contextlib.contextmanager
    def replacing(self) -> Iterator[None]:
        """End the process; the block must :meth:`replace` it, and the machine ends if it fails."""
        if self._status not in (Status.FAILED, Status.OFF):
            self._require(Status.RUNNING)
        self._move(Status.STARTING)
        self._process.end()
        try:
            yield
        except BaseException:
            self._move(Status.STOPPING)
            self.stop()
            raise

    @contextlib.contextmanager
    def powering_down(self) -> Iterator[None]:
        """Within it, the process of the machine ends, and afterwards the machine is off."""
        self._require(Status.RUNNING)
        self._ending = self.witness()
        self._move(Status.STOPPING)
        try:
            yield
        except BaseException:
            with self._lock:
                ended = self._process.child.exit_code is not None
                self._move(Status.OFF if ended else Status.RUNNING)
            raise
        self._move(Status.OFF)
        self.faults.power_lost()

    def power_on(self, limit: float) -> None:
        """Boot a machine that is off, or has failed, from its disks."""
        if self._status is not Status.FAILED:
            self._require(Status.OFF)
        former = self._status
        self._move(Status.STARTING)
        self._process.disconnect()
        line = b"\n[core-infra: powered on]\n"
        process: VmmProcess | None = None
        try:
            process, info = self._snapshotter.boot_again(self._process, line, limit)
            self.networks.connect(process)
            self.networks.set_up(process.agent)
        except BaseException:
            if process is not None:
                process.end()
            with self._lock:
                self._move(former)
            raise
        self.replace(process, info)

    @contextlib.contextmanager
    def on_restart(self, listener: Callable[[], None]) -> Iterator[None]:
        """Within it, *listener* is called on the supervisor's thread if the guest restarts."""
        self._restart_listeners.append(listener)
        try:
            yield
        finally:
            self._restart_listeners.remove(listener)

    def replace(
        self, process: VmmProcess, info: Mapping[str, str], saved: Sequence[MachineFault] = ()
    ) -> None:
        """Continue with another process.

        Args:
            process: the process.
            info: what its agent reports of the guest.
            saved: the faults that were active when the snapshot was made that it comes from.
        """
        self._ports.forward_again(process.qmp)
        self._process = process
        self._ending = None
        self.guest_info = info
        self.resumed_at.append(_clock(info))
        self._watch(process)
        cold.allow_restart(process)
        self._move(Status.RUNNING)
        self.faults.begin_again(process, saved)

    def _session_begun(self, process: VmmProcess, info: Mapping[str, str]) -> None:
        has_restarted = info.get("boot_id") != self.guest_info.get("boot_id")
        self.guest_info = info
        if process.identity is not None and has_restarted:
            # Names of files in memory are lost by a reboot.
            process.agent.thaw(**process.identity._asdict())
        self.networks.set_up(process.agent)
        if has_restarted:
            self.faults.begin_again(process)
        self._ending = None

    def _restarted(self) -> None:
        for listener in list(self._restart_listeners):
            listener()

    def _agent_if_running(self) -> AgentClient | None:
        return self._process.agent if self.runs and not self._process.agent.lost else None

    def _watch(self, process: VmmProcess) -> None:
        process.qmp.on_event("VSERPORT_CHANGE", lambda data: self._port_changed(process, data))
        process.qmp.on_event("RESET", lambda _data: self._reset(process))
        process.qmp.on_event("SHUTDOWN", lambda data: self._shuts_down(process, data))
        process.on_end(lambda _exit_code: self._ended(process))
        process.on_pause(self._paused)

    def _paused(self) -> None:
        self._listener(str(self.pause or f"machine {self.spec.name} resumes: there is room again"))

    def without_ports(self) -> AbstractContextManager[None]:
        """No snapshot has ports: two machines cannot listen on one. Open connections stay."""
        return self._ports.withdrawn(self._process.qmp)

    def _ended(self, process: VmmProcess) -> None:
        with self._lock:
            if process is self._process and self._restart is not None:
                self._restart.begin(process)
            elif process is self._process and self._status is Status.RUNNING:
                self._ending = self._ending or self.witness()
                self._move(Status.FAILED)
                self._restarted()

    def _port_changed(self, process: VmmProcess, data: dict[str, Any]) -> None:
        if not data.get("open") and self._status is Status.RUNNING:
            self._ending = self.witness()  # the machine may go down, a moment later
            if process.has_panicked():
                return  # it will end, which says more
            process.agent.lose_session(
                AgentGoneError(
                    f"the agent in machine {self.spec.name} has ended",
                    why="it was killed in the guest, or the guest is going down",
                )
            )

    def _reset(self, process: VmmProcess) -> None:
        """The guest restarts: it reboots, or it has panicked, which ends the machine."""
        if process.has_panicked():
            process.qmp.post("quit")
            return
        process.agent.lose_session(cold.agent_restarts(self.spec.name))
        self._restarted()

    def _shuts_down(self, process: VmmProcess, data: dict[str, Any]) -> None:
        """QEMU is about to end; if its guest restarts, another process takes over."""
        with self._lock:
            if self._status is not Status.RUNNING or not cold.is_restart(process, data):
                return
            self._restart = cold.ColdRestart(
                lambda former: self._snapshotter.launch_again(former, cold.LINE),
                self._continue_in,
                self._restart_failed,
            )
            self._move(Status.STARTING)
        process.agent.lose_session(cold.agent_restarts(self.spec.name))
        self._restarted()

    def _continue_in(self, process: VmmProcess) -> bool:
        """Continue in a process that boots; the next session with its agent sets up the guest."""
        process.agent.lose_session(cold.agent_restarts(self.spec.name))
        self.networks.connect(process)
        self._ports.forward_again(process.qmp)
        with self._lock:
            if self._status is not Status.STARTING:
                return False
            self._process, self._restart = process, None
            self._move(Status.RUNNING)
        cold.allow_restart(process)
        self._watch(process)
        return True

    def _restart_failed(self, error: Exception) -> None:
        self._process.end(f"it could not start again: {error}")
        with self._lock:
            self._restart = None
            if self._status is Status.STARTING:
                self._move(Status.FAILED)

    def _await_restart(self) -> None:
        if (restart := self._restart) is not None:
            restart.wait(timeouts.scaled(_RESTART))

    def _require(self, needed: Status) -> None:
        self._await_restart()
        if self._status is Status.FAILED:
            error = self._process.gone()
            if self._ending is not None:
                error.what += f" during {self._ending.by}"
            raise error
        if self._status is not needed:
            ending = self._ending
            raise MachineStateError(
                f"machine {self.spec.name} is {self._status.value}",
                why=f"this needs one that is {needed.value}"
                + (f", and it was ended by {ending.by}" if ending else ""),
                todo="power_on() boots it again."
                if self._status is Status.OFF
                else (ending.todo if ending else ""),
                needed=needed.value,
                found=self._status.value,
            )

    def _move(self, to: Status) -> None:
        with self._lock:
            if to not in TRANSITIONS[self._status]:
                raise MachineStateError(
                    f"machine {self.spec.name} cannot become {to.value}",
                    why=f"it is {self._status.value}",
                    needed=to.value,
                    found=self._status.value,
                )
            self._status = to
