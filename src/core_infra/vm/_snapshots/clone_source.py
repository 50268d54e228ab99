"""The sources of clones: a snapshot to load, or a stopped VMM process to fork."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from core_infra._unpatched import shutil
from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.vm._disks import Origins, save_layers, saved_disks
from core_infra.vm._hypervisors.hypervisor import MemoryFile
from core_infra.vm._io_pause import LOG
from core_infra.vm._snapshots.migration import restore, stream
from core_infra.vm._timeouts import scaled
from core_infra.vm._vmm_launch import fork, launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm._hypervisors.fork_server import ForkServer
    from core_infra.vm._hypervisors.hypervisor import DisposableHypervisor
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._snapshots.snapshot import Snapshot
    from core_infra.vm._vmm_launch import Starter
    from core_infra.vm._vmm_process import VmmProcess

_PIECE = 1 << 20
RESTORE_TIMEOUT = 2.0
"""Seconds, before scaling, that loading a saved state may take."""


class CloneSource(Protocol):
    """A stopped machine, to be cloned.

    Attributes:
        nonce: that of its agent's last session.
        past: what its console had printed.
    """

    nonce: str
    past: bytes

    def clone(
        self, directory: Path, *, name: str, past: bytes, die_with_parent: bool
    ) -> VmmProcess:
        """A copy of it, still stopped.

        Args:
            directory: where its files go.
            name: the machine's.
            past: what to append to the console's log first.
            die_with_parent: it ends when this process does, however that ends.
        """

    def write_state(self, write: Callable[[bytes], object], *, timeout: float) -> None:
        """Write its devices and its memory, piece by piece; it cannot be cloned after that."""

    def save_disks(self, directory: Path) -> None:
        """Copy what its disks have written to *directory*, as layers over the specified disks."""

    def is_whole(self) -> bool:
        """Whether it was not closed, and the files that it needs still exist."""

    def close(self) -> None:
        """Release what it holds; its clones live on."""


class SnapshotSource:
    """A snapshot on disk: each clone is a hypervisor of its own that loads it.

    Args:
        hypervisor: which one.
        spec: what the machine is made of.
        accelerator: how its instructions run.
        snapshot: the files.
        temporary: the files are removed when the source is closed.
    """

    def __init__(
        self,
        hypervisor: DisposableHypervisor,
        spec: MachineSpec,
        accelerator: str,
        snapshot: Snapshot,
        *,
        temporary: bool = False,
    ) -> None:
        self.nonce = snapshot.nonce
        self.past = snapshot.past()
        self._hypervisor = hypervisor
        self._spec = spec
        self._accelerator = accelerator
        self._snapshot = snapshot
        self._temporary = temporary
        self._origins = Origins(spec.disks, reopened=True)

    def clone(
        self,
        directory: Path,
        *,
        name: str,
        past: bytes,
        die_with_parent: bool,
        server: ForkServer | None = None,
        start: Starter | None = None,
    ) -> VmmProcess:
        """A new hypervisor that has loaded the snapshot; with *server*, one that can be forked."""
        self._origins.check()
        memory = self._snapshot.memory
        process = launch(
            self._hypervisor,
            dataclasses.replace(self._spec, name=name),
            self._accelerator,
            directory,
            disks=saved_disks(self._spec.disks, self._snapshot.directory),
            memory=None if memory is None else MemoryFile(memory, shared=False),
            incoming=True,
            die_with_parent=die_with_parent,
            past=past,
            server=server,
            start=start,
        )
        try:
            limit = scaled(RESTORE_TIMEOUT)
            restore(process, self._snapshot.state, with_memory=memory is None, timeout=limit)
        except BaseException as error:
            process.end()
            said = (directory / LOG).read_text(errors="replace").strip()
            if isinstance(error, CoreInfraError) and said and said not in str(error):
                raise UnavailableError("a saved machine cannot be loaded", why=said) from error
            raise
        return process

    def write_state(self, write: Callable[[bytes], object], *, timeout: float) -> None:
        """Write the file of the state; UnavailableError if the memory is in another one."""
        del timeout
        if self._snapshot.memory is not None:
            raise UnavailableError("a machine's memory is not in its state")
        with self._snapshot.state.open("rb") as file:
            while data := file.read(_PIECE):
                write(data)

    def save_disks(self, directory: Path) -> None:
        """Copy the layers of the snapshot."""
        for disk in saved_disks(self._spec.disks, self._snapshot.directory):
            if not disk.read_only:
                shutil.copyfile(disk.path, directory / disk.path.name)

    def is_whole(self) -> bool:
        """Whether its files still exist."""
        return self._snapshot.state.exists()

    def close(self) -> None:
        """Remove its files if they are temporary."""
        if self._temporary:
            shutil.rmtree(self._snapshot.directory, ignore_errors=True)


class ForkSource:
    """A stopped VMM process with a fork server in it: each clone is a fork of it.

    Args:
        process: the process, stopped; owned by this object from now on.
        nonce: that of its agent's last session.
        past: what its console had printed.
        source: the snapshot that it was loaded from, if it was; closed with this object.
    """

    def __init__(
        self, process: VmmProcess, nonce: str, past: bytes, source: SnapshotSource | None = None
    ) -> None:
        self.nonce = nonce
        self.past = past
        self._instance = process
        self._source = source
        self._origins = Origins(process.spec.disks, reopened=False)
        self._is_closed = False

    def clone(
        self, directory: Path, *, name: str, past: bytes, die_with_parent: bool
    ) -> VmmProcess:
        """A fork of the hypervisor."""
        self._origins.check()
        return fork(
            self._instance, directory, name=name, past=past, die_with_parent=die_with_parent
        )

    def write_state(self, write: Callable[[bytes], object], *, timeout: float) -> None:
        """Write the state of the stopped process."""
        stream(self._instance, write, timeout=timeout)

    def save_disks(self, directory: Path) -> None:
        """Copy the layers of the stopped process."""
        save_layers(self._instance.disks, self._instance.spec.disks, directory)

    def is_whole(self) -> bool:
        """Whether it was not closed; it needs no files that others could remove."""
        return not self._is_closed

    def close(self) -> None:
        """End the stopped process."""
        self._is_closed = True
        self._instance.end()
        shutil.rmtree(self._instance.directory, ignore_errors=True)
        if self._source is not None:
            self._source.close()
