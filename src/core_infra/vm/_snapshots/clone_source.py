"""What clones are made from: a file that is loaded, or a hypervisor that is forked."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from core_infra._unpatched import shutil
from core_infra.vm._disks import Origins, kept
from core_infra.vm._hypervisors.disposable import MemoryFile
from core_infra.vm._snapshots.migration import restore
from core_infra.vm._timeouts import scaled
from core_infra.vm._vmm_process import fork, launch

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._hypervisors.disposable import Hypervisor, MachineSpec
    from core_infra.vm._hypervisors.fork_server import ForkServer
    from core_infra.vm._snapshots.snapshot import Snapshot
    from core_infra.vm._vmm_process import VmmProcess

RESTORE_TIMEOUT = 2.0
"""Seconds, before scaling, that loading a saved state may take."""


class Template(Protocol):
    """A machine that stands still, to be cloned.

    Attributes:
        nonce: of its agent's last session.
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
            past: what its console's log begins, or goes on, with.
            die_with_parent: it ends when this process does, however that ends.
        """

    def is_whole(self) -> bool:
        """Whether all that it needs is still there."""

    def close(self) -> None:
        """End what it needs itself; its clones live on."""


class SnapshotSource:
    """A snapshot on disk: each clone is a hypervisor of its own that loads it.

    Args:
        hypervisor: which one.
        spec: what the machine is made of.
        accelerator: how its instructions run.
        snapshot: the files.
        temporary: the files go with the template.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
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
    ) -> VmmProcess:
        """A new hypervisor that has loaded the snapshot; with *server*, one that can be forked."""
        self._origins.check()
        memory = self._snapshot.memory
        instance = launch(
            self._hypervisor,
            dataclasses.replace(self._spec, name=name),
            self._accelerator,
            directory,
            disks=kept(self._spec.disks, self._snapshot.directory),
            memory=None if memory is None else MemoryFile(memory, shared=False),
            incoming=True,
            die_with_parent=die_with_parent,
            past=past,
            server=server,
        )
        try:
            limit = scaled(RESTORE_TIMEOUT)
            restore(instance, self._snapshot.state, with_memory=memory is None, timeout=limit)
        except BaseException:
            instance.end()
            raise
        return instance

    def is_whole(self) -> bool:
        """Whether its files are still there."""
        return self._snapshot.state.exists()

    def close(self) -> None:
        """Remove the files that are its own."""
        if self._temporary:
            shutil.rmtree(self._snapshot.directory, ignore_errors=True)


class ForkSource:
    """A hypervisor that stands still with a fork server in it: each clone is a fork of it.

    Args:
        instance: the hypervisor, stopped; the template owns it now.
        nonce: of its agent's last session.
        past: what its console had printed.
        source: the snapshot that it was loaded from, if it was; goes with the template.
    """

    def __init__(
        self, instance: VmmProcess, nonce: str, past: bytes, source: SnapshotSource | None = None
    ) -> None:
        self.nonce = nonce
        self.past = past
        self._instance = instance
        self._source = source
        self._origins = Origins(instance.spec.disks, reopened=False)

    def clone(
        self, directory: Path, *, name: str, past: bytes, die_with_parent: bool
    ) -> VmmProcess:
        """A fork of the hypervisor."""
        self._origins.check()
        return fork(
            self._instance, directory, name=name, past=past, die_with_parent=die_with_parent
        )

    def is_whole(self) -> bool:
        """Always: it needs no files that others could remove."""
        return True

    def close(self) -> None:
        """End the hypervisor that stands still."""
        self._instance.end()
        shutil.rmtree(self._instance.directory, ignore_errors=True)
        if self._source is not None:
            self._source.close()
