"""Starts VMM processes: with a hypervisor's command line, or by forking one that is stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from typing import TYPE_CHECKING

from core_infra.errors import NotFoundError, UnavailableError
from core_infra.process._child import Child, spawn
from core_infra.vm import _disks as layering
from core_infra.vm._hypervisors.fork_server import preloaded, why_not
from core_infra.vm._images.image import Image
from core_infra.vm._io_pause import LOG
from core_infra.vm._run_directory import write_record
from core_infra.vm._timeouts import scaled
from core_infra.vm._vmm_process import COMMAND, VmmProcess
from core_infra.vm._vmm_sockets import CONNECTIONS, SocketPairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import IO, TypeAlias

    from core_infra.vm._hardware import Disk
    from core_infra.vm._hypervisors.fork_server import ForkServer
    from core_infra.vm._hypervisors.hypervisor import DisposableHypervisor, MemoryFile
    from core_infra.vm._machine_spec import MachineSpec

    Starter: TypeAlias = Callable[[Sequence[str], Sequence[int], IO[bytes]], Child]
    """Starts a command with descriptors that it inherits, and a file for its output."""

FORK_TIMEOUT = 1.0
"""Seconds, before scaling, that forking a hypervisor may take."""


class FileGoneError(NotFoundError):
    """A file that a machine is to be made of was removed."""


def launch(
    hypervisor: DisposableHypervisor,
    spec: MachineSpec,
    accelerator: str,
    directory: Path,
    *,
    disks: Sequence[Disk] | None = None,
    written: Sequence[Disk] | None = None,
    memory: MemoryFile | None = None,
    incoming: bool = False,
    die_with_parent: bool = True,
    past: bytes = b"",
    server: ForkServer | None = None,
    start: Starter | None = None,
) -> VmmProcess:
    """Start the hypervisor for *spec*; nothing is waited for.

    Args:
        hypervisor: which one.
        spec: what the machine is made of.
        accelerator: how its instructions run.
        directory: where its files go.
        disks: what its disks begin as; None is what the spec says.
        written: the disks of a process that has ended, which it continues to write to.
        memory: the file that is its memory.
        incoming: do not boot, but wait for a saved state.
        die_with_parent: it ends when this process does, however that ends.
        past: what its console had printed before.
        server: a fork server to put into it.
        start: starts the process; None: it is a child of this one.

    Raises:
        FileGoneError: a file of the image, or of a disk, is not there any more.
        CoreInfraError: it cannot be started.
    """
    _require_files(spec, incoming=incoming)
    has_library = server is not None or why_not() is None
    if written is None:
        below = spec.disks if disks is None else disks
        written = layering.layers(below, directory, volatile=has_library)
    sockets = SocketPairs(spec.cards)
    try:
        fds = sockets.fds
        command = hypervisor.command_line(
            dataclasses.replace(spec, disks=tuple(written)),
            accelerator,
            **{name: fds[name] for name in CONNECTIONS},
            cards=[fds[name] for name in sockets.cards],
            memory=memory,
            incoming=incoming,
        )
        (directory / COMMAND).write_text(shlex.join(command) + "\n")
        if server is not None:
            command = server.command(command)
        elif has_library:
            command = preloaded(command)
        with (directory / LOG).open("wb") as output:
            inherited = [*fds.values(), *(server.fds() if server else ())]
            if start is not None:
                child = start(command, inherited, output)
            else:
                child = spawn(
                    command,
                    output=output,
                    pass_fds=inherited,
                    die_with_parent=die_with_parent,
                    without_file_signals=True,
                )
        sockets.inherited()
        if server is not None:
            server.inherited()
        with contextlib.ExitStack() as undo:
            undo.callback(child.kill)
            write_record(directory, child.pid, name=spec.name)
            process = VmmProcess(
                child,
                sockets,
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
        sockets.close()
        raise
    return process


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
    process: VmmProcess, directory: Path, *, name: str, past: bytes, die_with_parent: bool
) -> VmmProcess:
    """A copy of a stopped process with a fork server in it; the copy is stopped, too.

    Its memory and its translated code are the first one's until it writes there; what is written
    to its disks goes to a copy of the first one's layer.

    Args:
        process: the process to copy.
        directory: where the copy's files go.
        name: the copy's.
        past: what to append to the console's log first.
        die_with_parent: it ends when this process does, however that ends.

    Raises:
        UnavailableError: it cannot be forked.
        TimeoutExpiredError: its threads did not stop in time.
    """
    if process.server is None:
        raise UnavailableError(f"machine {process.spec.name} has no fork server")
    sockets = SocketPairs(process.spec.cards)
    try:
        replacements = {process.fds[connection]: fd for connection, fd in sockets.fds.items()}
        with (directory / LOG).open("ab") as log, contextlib.ExitStack() as files:
            pid, server = process.server.fork(
                replacements
                | dict.fromkeys((1, 2), log.fileno())
                | layering.copied(process.disks, process.child.pid, directory, files),
                die_with_parent=die_with_parent,
                timeout=scaled(FORK_TIMEOUT),
            )
        reap = server.exit_code if server.adopted else None
        child = Child(process.child.argv, pid, reap, adopted=server.adopted)
        with contextlib.ExitStack() as undo:
            undo.callback(child.kill)
            sockets.inherited()
            write_record(directory, child.pid, name=name)
            copy = VmmProcess(
                child,
                sockets,
                directory,
                process.fds,
                spec=dataclasses.replace(process.spec, name=name),
                accelerator=process.accelerator,
                disks=layering.moved(process.disks, directory),
                past=past,
                server=server,
            )
            undo.pop_all()
    except BaseException:
        sockets.close()
        raise
    return copy
