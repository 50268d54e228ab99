"""Makes what clones are made from: boots machines, saves them, loads what was saved."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import shutil, time
from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._boot import BOOT_TIMEOUT, await_agent, boot_limit
from core_infra.vm._free_space import is_full, no_room
from core_infra.vm._hypervisors.fork_server import ForkServer
from core_infra.vm._hypervisors.hypervisor import MemoryFile
from core_infra.vm._snapshots import snapshot as files
from core_infra.vm._snapshots.clone_source import ForkSource, SnapshotSource
from core_infra.vm._snapshots.migration import save
from core_infra.vm._snapshots.resume import RESUME_TIMEOUT, quiesce, settle, unquiesce, warm_up
from core_infra.vm._snapshots.snapshot import Snapshot, template_key
from core_infra.vm._snapshots.warm_network import warm_up_network
from core_infra.vm._vmm_launch import FileGoneError, fork, launch
from core_infra.vm._vmm_process import CONSOLE
from core_infra.vm._warm.leases import lease, leave

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm._hypervisors.hypervisor import DisposableHypervisor
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._snapshots.clone_source import CloneSource
    from core_infra.vm._snapshots.resume import CloneVerifier
    from core_infra.vm._vmm_launch import Starter
    from core_infra.vm._vmm_process import VmmProcess
    from core_infra.vm._warm.client import WarmHelper


def fork_server(accelerator: str) -> ForkServer | None:
    """A fork server for a new hypervisor, where one works."""
    if accelerator != "tcg":
        return None
    try:
        return ForkServer()
    except UnavailableError:
        return None


class SourceBuilder:
    """Makes snapshots, and the sources of clones.

    Args:
        hypervisor: what runs the machines.
        verifier: resumes and verifies clones.
        make_directory: makes a directory for a machine of the given name.
        progress: called with a line when something takes long.
        warm: keeps templates for the next runs; None: nobody does.
    """

    def __init__(
        self,
        hypervisor: DisposableHypervisor,
        verifier: CloneVerifier,
        make_directory: Callable[[str], Path],
        progress: Callable[[str], None],
        warm: WarmHelper | None = None,
    ) -> None:
        self._warm = warm
        self._hypervisor = hypervisor
        self._verifier = verifier
        self._make_directory = make_directory
        self._progress = progress
        self._numbers = itertools.count(1)

    def save_booted(self, spec: MachineSpec, accelerator: str, work: Path) -> Snapshot:
        """Boot a machine and save it into the directory *work*."""
        self._progress(
            f"booting a machine to clone from ({spec.image.name}, {spec.memory} MiB): once, then "
            "it is kept"
        )
        directory = self._make_directory(f"builder{next(self._numbers)}")
        memory = MemoryFile(work / files.MEMORY, shared=True)
        builder = dataclasses.replace(spec, name="builder")
        process = launch(self._hypervisor, builder, accelerator, directory, memory=memory)
        try:
            await_agent(process, builder, boot_limit(spec.image))
            limit = timeouts.scaled(BOOT_TIMEOUT)
            seconds = time.monotonic() - process.child.started_at
            warm_up(process)
            settle(process)
            nonce = quiesce(process, limit)
            save(process, work, with_memory=False, timeout=limit)
        except CoreInfraError as error:
            if is_full(work):  # its memory is a file there: QEMU was ended by SIGBUS
                raise no_room("a machine's memory", work) from error
            raise
        finally:
            process.end()
        shutil.copyfile(directory / CONSOLE, work / files.CONSOLE)
        shutil.rmtree(directory, ignore_errors=True)
        return Snapshot(work, "", nonce, seconds, self._facts(spec, accelerator))

    def save_and_end(self, process: VmmProcess, work: Path | None = None) -> Snapshot:
        """Save a running machine into the directory *work*, a new one by default, and end it."""
        if work is None:
            work = self._make_directory(f"saved{next(self._numbers)}")
        limit = timeouts.scaled(BOOT_TIMEOUT)
        try:
            nonce = quiesce(process, limit)
            save(process, work, with_memory=True, timeout=limit)
            (work / files.CONSOLE).write_text(process.console.text())
        finally:
            process.end()
        return Snapshot(work, "", nonce, 0.0, self._facts(process.spec, process.accelerator))

    def load(
        self,
        snapshot: Snapshot,
        spec: MachineSpec,
        accelerator: str,
        *,
        booted: bool = False,
        temporary: bool = False,
    ) -> CloneSource:
        """The source of a snapshot's clones: a hypervisor that can be forked, where possible.

        Args:
            snapshot: the saved machine.
            spec: what it is made of.
            accelerator: how its instructions run.
            booted: it has just booted, and nobody has prepared it.
            temporary: the snapshot's files are removed with the source.

        Raises:
            FileGoneError: the snapshot was removed meanwhile.
        """
        try:
            return self._loaded(
                SnapshotSource(self._hypervisor, spec, accelerator, snapshot, temporary=temporary),
                snapshot,
                spec,
                accelerator,
                booted=booted,
            )
        except (FileNotFoundError, UnavailableError) as error:
            if snapshot.state.exists():
                raise
            raise FileGoneError(
                f"the snapshot {snapshot.directory} is gone", why="another process has removed it"
            ) from error

    def _loaded(
        self,
        saved: SnapshotSource,
        snapshot: Snapshot,
        spec: MachineSpec,
        accelerator: str,
        *,
        booted: bool,
    ) -> CloneSource:
        if accelerator != "tcg":
            return saved  # a processor's own virtual machine cannot be forked with its process
        try:
            if self._warm is not None and booted and not spec.disks:
                try:
                    return self._warm_source(self._warm, saved, snapshot, spec, accelerator)
                except UnavailableError as error:
                    self._progress(f"no template is kept for the next run: {error}")
            return self._load_for_forks(saved, booted=booted)
        except UnavailableError as error:
            if not saved.is_whole():
                raise
            self._progress(f"clones are loaded and not forked: {error}")
            return saved

    def capture(self, process: VmmProcess) -> CloneSource:
        """The source for clones of a running machine as it is now; the machine continues.

        Raises:
            CoreInfraError: it cannot be made; the machine continues all the same.
        """
        limit = timeouts.scaled(RESUME_TIMEOUT)
        nonce = quiesce(process, limit)
        past = process.console.text().encode()
        try:
            return self.copy(process, nonce, past)
        finally:
            unquiesce(process, limit)

    def _load_for_forks(self, saved: SnapshotSource, *, booted: bool) -> ForkSource:
        """Load a snapshot into a hypervisor that can be forked, and warm it up."""
        process, nonce = self._template(saved, booted=booted)
        return ForkSource(process, nonce, saved.past, saved)

    def _template(
        self, saved: SnapshotSource, *, booted: bool, start: Starter | None = None
    ) -> tuple[VmmProcess, str]:
        """A snapshot in a hypervisor that can be forked, warm and stopped; its agent's nonce."""
        server = ForkServer()
        name = f"source{next(self._numbers)}"
        directory = self._make_directory(name)
        try:
            process = saved.clone(
                directory, name=name, past=b"", die_with_parent=True, server=server, start=start
            )
        except BaseException:
            server.close()
            raise
        try:
            limit = timeouts.scaled(RESUME_TIMEOUT)
            self._verifier.resume(process, name=name, nonce=saved.nonce, limit=limit)
            warm_up(process)
            if process.cards:
                warm_up_network(process)
            if booted:
                settle(process)
            return process, quiesce(process, limit)
        except BaseException:
            process.end()
            raise

    def _warm_source(
        self,
        helper: WarmHelper,
        saved: SnapshotSource,
        snapshot: Snapshot,
        spec: MachineSpec,
        accelerator: str,
    ) -> ForkSource:
        """A clone of the helper's template, which is made first if there is none."""
        key = template_key(snapshot)
        name = f"source{next(self._numbers)}"
        directory = self._make_directory(name)
        spec = dataclasses.replace(spec, name=name)
        leased = lease(helper, key, spec, accelerator, directory)
        if leased is None:
            process, nonce = self._template(saved, booted=True, start=helper.spawn)
            what = f"{spec.image.name}, {spec.memory} MiB, {spec.cpus} cpu"
            leave(helper, key, process, nonce, what)
            leased = lease(helper, key, spec, accelerator, directory)
        if leased is None:
            raise UnavailableError("the warm helper has lost a template")
        return ForkSource(*leased, saved.past, saved)

    def copy(self, process: VmmProcess, nonce: str, past: bytes) -> CloneSource:
        """The source for clones of a machine that is quiesced, and stays so.

        Args:
            process: the machine.
            nonce: that of its agent's last session.
            past: what its console had printed.
        """
        name = f"source{next(self._numbers)}"
        directory = self._make_directory(name)
        if process.server is not None:
            copy = fork(process, directory, name=name, past=b"", die_with_parent=True)
            return ForkSource(copy, nonce, past)
        (directory / files.CONSOLE).write_bytes(past)
        limit = timeouts.scaled(BOOT_TIMEOUT)
        save(process, directory, with_memory=True, timeout=limit)
        snapshot = Snapshot(directory, "", nonce, 0.0, {})
        return SnapshotSource(
            self._hypervisor, process.spec, process.accelerator, snapshot, temporary=True
        )

    def _facts(self, spec: MachineSpec, accelerator: str) -> dict[str, Any]:
        return {
            "image": spec.image.name,
            "memory": spec.memory,
            "cpus": spec.cpus,
            "hypervisor": f"{self._hypervisor.name} {self._hypervisor.version()}",
            "accelerator": accelerator,
        }
