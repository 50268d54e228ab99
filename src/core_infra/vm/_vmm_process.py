"""The process of a virtual machine monitor (VMM) and our connections with it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from core_infra._eventloop.sockets import short_path
from core_infra._unpatched import socket
from core_infra.vm import _disks as layering
from core_infra.vm._console import Console
from core_infra.vm._guest.client import AgentClient
from core_infra.vm._guest.connection import GuestGoneError
from core_infra.vm._guest.results import describe_exit
from core_infra.vm._hardware import VIRTUAL
from core_infra.vm._hypervisors.qemu_arguments import DISK_NODE
from core_infra.vm._hypervisors.qmp import Qmp
from core_infra.vm._io_pause import IoPause
from core_infra.vm._vmm_sockets import peek_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from core_infra.process._child import Child
    from core_infra.vm._hardware import Disk
    from core_infra.vm._hypervisors.fork_server import ForkServer
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._vmm_sockets import SocketPairs


COMMAND = "command"
CONSOLE = "console.log"
TAIL_LINES = 30
_LINES_OF_PANIC = 8  # the message is known, and these are registers

CONSOLE_SOCKET = "console.sock"
AGENT_SOCKET = "agent.sock"


_running: set[int] = set()


def running_processes() -> set[int]:
    """The ids of the VMM processes that this process has started and that have not ended."""
    return set(_running)


class Identity(NamedTuple):
    """What differs between the guests of clones."""

    hostname: str
    machine_id: str
    mac: bytes


class ClockSetting(NamedTuple):
    """A guest's clock: right, or wrong on purpose.

    Attributes:
        ahead: nanoseconds that it was ahead of the host's when it was set.
        rate: of its seconds, in those of the host.
        since: when it was set, in the host's nanoseconds since 1970.
    """

    ahead: int = 0
    rate: float = 1.0
    since: int = 0

    def at(self, now: int) -> int:
        """What it shows when the host's clock shows *now*, in nanoseconds since 1970."""
        return now + self.ahead + round((now - self.since) * (self.rate - 1))


class VmmProcess:
    """A VMM process: the process itself, its monitor, its guest's agent, its console.

    Attributes:
        cards: our ends of its network cards, until a switch gets them. Without, QEMU would not read
            from the card any more, and neither would its forks.

    Args:
        child: the process.
        sockets: our ends of its connections; they are owned by this object from now on.
        directory: its files on this host.
        fds: its own descriptors of the connections, by name.
        spec: what the machine is made of.
        accelerator: how the guest's instructions run.
        disks: the disks that it writes to.
        past: what the console had printed before this process existed.
        server: the fork server in it, if there is one.

    Attributes:
        stands_still: it is paused, and virtual time does not pass.
        identity: what its guest was given that differs from other clones; None: nothing.
        clock: what its guest's clock shows on purpose.
    """

    def __init__(
        self,
        child: Child,
        sockets: SocketPairs,
        directory: Path,
        fds: Mapping[str, int],
        *,
        spec: MachineSpec,
        accelerator: str,
        disks: Sequence[Disk] = (),
        past: bytes = b"",
        server: ForkServer | None = None,
    ) -> None:
        self.clock = ClockSetting()
        self.child = child
        self.disks = tuple(disks)
        self.spec = spec
        self.accelerator = accelerator
        self.directory = directory
        self.fds = dict(fds)
        self._ours = dict(sockets.ours)
        self.cards = [sockets.ours[name] for name in sockets.cards]
        self._unread = sockets.take_cards()
        self.server = server
        self.identity: Identity | None = None
        self._asked = ""
        _running.add(child.pid)
        self._listener: Callable[[int], None] = lambda _exit_code: None
        self.console = Console(sockets.ours["console"], directory / CONSOLE, past)
        self.qmp = Qmp(sockets.ours["monitor"])
        # The connection closes a moment before the process ends, and its end says more.
        self.agent = AgentClient(
            sockets.ours["agent"],
            on_lost=lambda: None,
            on_work=self._works,
            on_idle=self._idles,
        )
        self.stands_still = False
        self._paused: Callable[[], None] = lambda: None
        self.pause = IoPause(self.qmp, self._disk, self._pause_changed, self.agent.fail_paused)
        child.on_exit(self._ended)

    def on_end(self, listener: Callable[[int], None]) -> None:
        """Call *listener(exit_code)* when the process has ended, before calls under way fail."""
        self._listener = listener
        if self.child.exit_code is not None:
            listener(self.child.exit_code)

    def on_pause(self, listener: Callable[[], None]) -> None:
        """Call *listener* on the supervisor's thread when the machine is paused or resumed."""
        self._paused = listener

    def gone(self) -> GuestGoneError:
        """The error that says how it ended, as far as is known."""
        lines = TAIL_LINES if self.console.panic() is None else _LINES_OF_PANIC
        return GuestGoneError(
            f"machine {self.spec.name} has ended",
            why=f"{self.how_it_ended()}; the console's last lines:\n{self.console.tail(lines)}",
        )

    def how_it_ended(self) -> str:
        """How it ended, in a few words, as far as is known."""
        code = self.child.exit_code
        how = self._asked or ("it was stopped" if code is None else describe_exit(code))
        return self.console.panic() or how

    def end(self, why: str = "it was stopped") -> None:
        """End it at once: neither its guest nor its files need an orderly end.

        Args:
            why: for the errors of calls under way.
        """
        self._asked = self._asked or why
        self.child.kill()
        self.disconnect()

    def leave(self) -> None:
        """Leave it to another process that has our :attr:`ends`, to which it belongs."""
        _running.discard(self.child.pid)
        self.disconnect()

    @property
    def ends(self) -> list[int]:
        """Our ends of its connections."""
        return [sock.fileno() for sock in self._ours.values()]

    def rename(self, name: str, directory: Path) -> None:
        """Make it the process of another machine, with its files in an empty *directory*."""
        self.directory.rename(directory)
        self.directory = directory
        self.disks = layering.moved(self.disks, directory)
        self.console.path = directory / CONSOLE
        self.spec = dataclasses.replace(self.spec, name=name)

    def disconnect(self) -> None:
        """Close our ends of the connections."""
        for part in (self.qmp, self.agent, self.console, self.server, *self.cards, *self._unread):
            if part is not None:
                part.close()

    def unread_frames(self) -> list[list[bytes]]:
        """The frames in the sockets of its cards, which QEMU has not read; it is stopped.

        QEMU may read one more when it is stopped, which then is part of its memory.
        """
        for _ in range(2):
            self.qmp.execute("query-status")  # its main loop has run
        return [peek_messages(card) for card in self._unread]

    def has_panicked(self) -> bool:
        """Whether the guest's kernel has panicked; call it on the supervisor's thread."""
        self.console.drain()  # QEMU has sent all that was printed before it sent its event
        return self.console.panic() is not None

    def _works(self) -> None:
        if self.spec.time == VIRTUAL and not self.stands_still:
            self.qmp.post("cont")

    def _idles(self) -> None:
        """Virtual time passes only while something waits for the guest."""
        if self.spec.time == VIRTUAL and not self.stands_still:
            self.qmp.post("stop")

    def _pause_changed(self) -> None:
        self.agent.pause(self.pause.error, self.pause.until)
        self._paused()

    def _disk(self, node: str) -> tuple[str, Path]:
        """The machine's name, and the file that a block device of QEMU writes to."""
        number = node.removeprefix(DISK_NODE)
        found = [each for each in self.disks if not each.read_only]
        if number.isdecimal() and int(number) < len(self.disks):
            found = [self.disks[int(number)]]
        return self.spec.name, found[0].path if found else self.directory

    def _ended(self, exit_code: int) -> None:
        _running.discard(self.child.pid)
        self.pause.close()
        self._listener(exit_code)
        self.console.drain()
        self.agent.fail(self.gone())

    def expose(self) -> None:
        """Give console and agent sockets with names in its directory, for other processes."""
        for connection, name in (("console", CONSOLE_SOCKET), ("agent", AGENT_SOCKET)):
            with socket.socket(socket.AF_UNIX) as server:
                with short_path(self.directory / name) as address:
                    server.bind(address)
                server.listen(1)
                self.qmp.execute("getfd", fds=[server.fileno()], fdname=connection)
            backend = {
                "addr": {"type": "fd", "data": {"str": connection}},
                "server": True,
                "wait": False,
            }
            self.qmp.execute(
                "chardev-change", id=connection, backend={"type": "socket", "data": backend}
            )
