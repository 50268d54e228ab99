"""A hypervisor's process and our connections with it, whichever way it came to be."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from typing import TYPE_CHECKING

from core_infra._eventloop.sockets import short_path
from core_infra._unpatched import socket
from core_infra.errors import NotFoundError, UnavailableError
from core_infra.process._child import Child, spawn
from core_infra.vm import _disks as layering
from core_infra.vm._console import Console
from core_infra.vm._guest.client import AgentClient, GuestGoneError
from core_infra.vm._guest.command import describe_exit
from core_infra.vm._hypervisors.qemu_arguments import NODE
from core_infra.vm._hypervisors.qmp import Qmp
from core_infra.vm._images.image import Image
from core_infra.vm._io_pause import IoPause
from core_infra.vm._run_directory import write_record
from core_infra.vm._timeouts import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from core_infra.vm._hypervisors.disposable import Disk, Hypervisor, MachineSpec, MemoryFile
    from core_infra.vm._hypervisors.fork_server import ForkServer


COMMAND = "command"
LOG = "hypervisor.log"
CONSOLE = "console.log"
TAIL_LINES = 30
FORK_TIMEOUT = 1.0
"""Seconds, before scaling, that forking a hypervisor may take."""

CONSOLE_SOCKET = "console.sock"
AGENT_SOCKET = "agent.sock"


class FileGoneError(NotFoundError):
    """A file that a machine is to be made of was removed."""


_living: set[int] = set()


def living() -> set[int]:
    """The process ids of all instances of this process that have not ended."""
    return set(_living)


class VmmProcess:
    """A running hypervisor: its process, its monitor, its guest's agent, its console.

    Args:
        child: its process.
        wires: our ends of its connections; the instance owns them from now on.
        directory: its files on this host.
        fds: the hypervisor's own descriptors of the connections, by name.
        spec: what the machine is made of.
        accelerator: how its instructions run.
        disks: what it writes to.
        past: what its console had printed before it became this instance.
        server: the fork server within it, if there is one.
    """

    def __init__(
        self,
        child: Child,
        wires: SocketPairs,
        directory: Path,
        fds: Mapping[str, int],
        *,
        spec: MachineSpec,
        accelerator: str,
        disks: Sequence[Disk] = (),
        past: bytes = b"",
        server: ForkServer | None = None,
    ) -> None:
        self.child = child
        self.disks = tuple(disks)
        self.spec = spec
        self.accelerator = accelerator
        self.directory = directory
        self.fds = dict(fds)
        self.server = server
        self._asked = False
        _living.add(child.pid)
        self._listener: Callable[[int], None] = lambda _exit_code: None
        self.console = Console(wires.ours["console"], directory / CONSOLE, past)
        self.qmp = Qmp(wires.ours["monitor"])
        # The connection closes a moment before the process has ended, which tells more.
        self.agent = AgentClient(wires.ours["agent"], on_lost=lambda: None)
        self._paused: Callable[[], None] = lambda: None
        self.stall = IoPause(self.qmp, self._written_to, self._stalled, self.agent.give_up)
        child.on_exit(self._ended)

    def on_end(self, listener: Callable[[int], None]) -> None:
        """Call *listener(exit_code)* when the process has ended, before anybody is told."""
        self._listener = listener
        if self.child.exit_code is not None:
            listener(self.child.exit_code)

    def on_pause(self, listener: Callable[[], None]) -> None:
        """Call *listener* on the supervisor's thread when it was paused, and when it goes on."""
        self._paused = listener

    def gone(self) -> GuestGoneError:
        """The error that tells how it ended, as far as is known."""
        code = self.child.exit_code
        how = "it was stopped" if self._asked or code is None else describe_exit(code)
        why = self.console.panic() or how
        return GuestGoneError(
            f"machine {self.spec.name} has ended",
            why=f"{why}; the console's last lines:\n{self.console.tail(TAIL_LINES)}",
        )

    def end(self) -> None:
        """End it, now: neither its guest nor its files are worth a farewell."""
        self._asked = True
        self.child.kill()
        self.disconnect()

    def rename(self, name: str, directory: Path) -> None:
        """Make it the instance of another machine, with its files in an empty *directory*."""
        self.directory.rename(directory)
        self.directory = directory
        self.disks = layering.moved(self.disks, directory)
        self.console.path = directory / CONSOLE
        self.spec = dataclasses.replace(self.spec, name=name)

    def disconnect(self) -> None:
        """Close our ends of the connections."""
        for part in (self.qmp, self.agent, self.console, self.server):
            if part is not None:
                part.close()

    def _stalled(self) -> None:
        self.agent.stall(self.stall.error, self.stall.until)
        self._paused()

    def _written_to(self, node: str) -> tuple[str, Path]:
        """The machine's name, and the file that a block device of QEMU writes to."""
        number = node.removeprefix(NODE)
        found = [each for each in self.disks if not each.read_only]
        if number.isdecimal() and int(number) < len(self.disks):
            found = [self.disks[int(number)]]
        return self.spec.name, found[0].path if found else self.directory

    def _ended(self, exit_code: int) -> None:
        _living.discard(self.child.pid)
        self.stall.close()
        self._listener(exit_code)
        self.console.drain()
        self.agent.fail(self.gone())

    def expose(self) -> None:
        """Give console and agent sockets with names in its directory, for whoever comes later."""
        for wire, name in (("console", CONSOLE_SOCKET), ("agent", AGENT_SOCKET)):
            with socket.socket(socket.AF_UNIX) as server:
                with short_path(self.directory / name) as address:
                    server.bind(address)
                server.listen(1)
                self.qmp.execute("getfd", fds=[server.fileno()], fdname=wire)
            backend = {
                "addr": {"type": "fd", "data": {"str": wire}},
                "server": True,
                "wait": False,
            }
            self.qmp.execute("chardev-change", id=wire, backend={"type": "socket", "data": backend})


def launch(
    hypervisor: Hypervisor,
    spec: MachineSpec,
    accelerator: str,
    directory: Path,
    *,
    disks: Sequence[Disk] | None = None,
    memory: MemoryFile | None = None,
    incoming: bool = False,
    die_with_parent: bool = True,
    past: bytes = b"",
    server: ForkServer | None = None,
) -> VmmProcess:
    """Start the hypervisor for *spec*; nothing is waited for.

    Args:
        hypervisor: which one.
        spec: what the machine is made of.
        accelerator: how its instructions run.
        directory: where its files go.
        disks: what its disks begin as; None is what the spec says.
        memory: the file that is its memory.
        incoming: do not boot, but wait for a saved state.
        die_with_parent: it ends when this process does, however that ends.
        past: what its console had printed before.
        server: a fork server to put into it.

    Raises:
        FileGoneError: a file of the image, or of a disk, is not there any more.
        CoreInfraError: it cannot be started.
    """
    _require_files(spec, incoming=incoming)
    written = layering.layers(spec.disks if disks is None else disks, directory)
    wires = SocketPairs()
    try:
        fds = wires.fds
        command = hypervisor.command_line(
            dataclasses.replace(spec, disks=written),
            accelerator,
            **fds,
            memory=memory,
            incoming=incoming,
        )
        (directory / COMMAND).write_text(shlex.join(command) + "\n")
        with (directory / LOG).open("wb") as output:
            child = spawn(
                server.command(command) if server else command,
                output=output,
                pass_fds=[*fds.values(), *(server.fds() if server else ())],
                die_with_parent=die_with_parent,
                without_file_signals=True,
            )
        wires.inherited()
        if server is not None:
            server.inherited()
        with contextlib.ExitStack() as undo:
            undo.callback(child.kill)
            write_record(directory, child.pid, name=spec.name)
            instance = VmmProcess(
                child,
                wires,
                directory,
                fds,
                spec=spec,
                accelerator=accelerator,
                disks=written,
                past=past,
                server=server,
            )
            undo.pop_all()
    except BaseException:
        wires.close()
        raise
    return instance


def _require_files(spec: MachineSpec, *, incoming: bool) -> None:
    files = [disk.path for disk in spec.disks]
    if isinstance(spec.image, Image) and not incoming:
        files += [spec.image.kernel, *([spec.image.initrd] if spec.image.initrd else [])]
    for path in files:
        if not path.exists():
            raise FileGoneError(
                f"cannot start machine {spec.name}", why=f"the file {path} is not there any more"
            )


def fork(
    instance: VmmProcess, directory: Path, *, name: str, past: bytes, die_with_parent: bool
) -> VmmProcess:
    """A copy of a stopped instance with a fork server in it; it is stopped, too.

    Its memory and its translated code are the first one's until it writes there; what is written
    to its disks goes to a copy of the first one's layer.

    Args:
        instance: what is copied.
        directory: where the copy's files go.
        name: the copy's.
        past: what its console's log begins, or goes on, with.
        die_with_parent: it ends when this process does, however that ends.

    Raises:
        UnavailableError: it cannot be forked.
        TimeoutExpiredError: its threads did not stand still in time.
    """
    if instance.server is None:
        raise UnavailableError(f"machine {instance.spec.name} has no fork server")
    wires = SocketPairs()
    try:
        replacements = {instance.fds[wire]: fd for wire, fd in wires.fds.items()}
        with (directory / LOG).open("ab") as log, contextlib.ExitStack() as files:
            pid, server = instance.server.fork(
                replacements
                | dict.fromkeys((1, 2), log.fileno())
                | layering.copied(instance.disks, instance.child.pid, directory, files),
                die_with_parent=die_with_parent,
                timeout=scaled(FORK_TIMEOUT),
            )
        child = Child(instance.child.argv, pid)
        with contextlib.ExitStack() as undo:
            undo.callback(child.kill)
            wires.inherited()
            write_record(directory, child.pid, name=name)
            copy = VmmProcess(
                child,
                wires,
                directory,
                instance.fds,
                spec=dataclasses.replace(instance.spec, name=name),
                accelerator=instance.accelerator,
                disks=layering.moved(instance.disks, directory),
                past=past,
                server=server,
            )
            undo.pop_all()
    except BaseException:
        wires.close()
        raise
    return copy


NAMES = ("monitor", "console", "agent")


class SocketPairs:
    """Both ends of a machine's connections until the hypervisor has its own.

    Attributes:
        ours: our ends, by name.
    """

    def __init__(self) -> None:
        self.ours: dict[str, socket.socket] = {}
        self._theirs: dict[str, socket.socket] = {}
        try:
            for name in NAMES:
                self.ours[name], self._theirs[name] = socket.socketpair()
        except BaseException:
            self.close()
            raise

    @property
    def fds(self) -> dict[str, int]:
        """The descriptors of the hypervisor's ends, by name."""
        return {name: sock.fileno() for name, sock in self._theirs.items()}

    def inherited(self) -> None:
        """The hypervisor has its ends: close our copies, so that its end is noticed."""
        for sock in self._theirs.values():
            sock.close()

    def close(self) -> None:
        """Close everything."""
        self.inherited()
        for sock in self.ours.values():
            sock.close()
