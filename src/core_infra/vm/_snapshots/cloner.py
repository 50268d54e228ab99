"""Clones of any machine: the cloner finds or makes their source, and keeps some clones ready."""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import TYPE_CHECKING

from core_infra._unpatched import shutil
from core_infra.errors import UnavailableError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._boot import await_agent
from core_infra.vm._cache import report_news
from core_infra.vm._snapshots.key import snapshot_key
from core_infra.vm._snapshots.pool import Pool
from core_infra.vm._snapshots.resume import RESUME_TIMEOUT, AgentGuest, CloneVerifier
from core_infra.vm._snapshots.source_builder import SourceBuilder, fork_server
from core_infra.vm._snapshots.together import standing_still, start_together
from core_infra.vm._vmm_launch import launch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._hypervisors.hypervisor import DisposableHypervisor
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._network.lan import Lan
    from core_infra.vm._network.under_way import Frames
    from core_infra.vm._snapshots.clone_source import CloneSource
    from core_infra.vm._snapshots.snapshot import Snapshot
    from core_infra.vm._snapshots.store import SnapshotStore
    from core_infra.vm._snapshots.together import Node
    from core_infra.vm._vmm_process import VmmProcess
    from core_infra.vm._warm.client import WarmHelper


class Cloner:
    """Clones machines.

    Args:
        hypervisor: what runs them.
        store: the snapshots on disk.
        make_directory: makes a directory for a machine of the given name.
        progress: called with a line when something takes long.
        die_with_parent: clones end when this process does, however that ends.
        ready: how many clones of each source are made before they are asked for.
        warm: keeps templates of machines that have booted for the next runs; None: nobody does.
    """

    def __init__(
        self,
        hypervisor: DisposableHypervisor,
        store: SnapshotStore,
        make_directory: Callable[[str], Path],
        progress: Callable[[str], None],
        *,
        die_with_parent: bool,
        ready: int,
        warm: WarmHelper | None = None,
    ) -> None:
        self._warm = warm
        self._hypervisor = hypervisor
        self._store = store
        self._make_directory = make_directory
        self._progress = progress
        self._die_with_parent = die_with_parent
        self._verifier = CloneVerifier()
        self._builder = SourceBuilder(hypervisor, self._verifier, make_directory, progress, warm)
        self._lock = threading.Lock()
        self._sources: dict[str, CloneSource] = {}
        self._prepared: list[CloneSource] = []
        self._numbers = itertools.count(1)
        self._pool = Pool(ready, self._make_ready)

    def source(self, spec: MachineSpec, accelerator: str) -> CloneSource:
        """The source for clones of a machine that has booted.

        Raises:
            CoreInfraError: it cannot be made; a cold boot may still work.
        """
        key = snapshot_key(self._hypervisor, spec, accelerator)
        with self._lock:  # a second thread waits for the first one's
            if key in self._sources and not self._sources[key].is_whole():
                self._sources.pop(key).close()  # its files were removed with the cache
            if key not in self._sources:
                snapshot = self._booted_snapshot(key, spec, accelerator)
                if spec.image.has_agent:  # another image's boot says nothing of the host
                    timeouts.record_boot(snapshot.boot_seconds)
                self._sources[key] = self._builder.load(snapshot, spec, accelerator, booted=True)
            return self._sources[key]

    def ensure_snapshot(self, spec: MachineSpec, accelerator: str) -> None:
        """Save the snapshot of such a machine now if there is none, so that no test waits later."""
        key = snapshot_key(self._hypervisor, spec, accelerator)
        self._booted_snapshot(key, spec, accelerator)

    def prepared_source(
        self,
        spec: MachineSpec,
        accelerator: str,
        make: Callable[[], VmmProcess],
        kept_by: Sequence[str],
    ) -> CloneSource:
        """The source for clones of a machine that the caller prepares.

        Args:
            spec: what the machine is made of.
            accelerator: how its instructions run.
            make: returns the machine, prepared; it is ended when it has been saved.
            kept_by: the key that later runs on this host find it by; empty: it stays in memory.
        """
        if kept_by:
            key = snapshot_key(self._hypervisor, spec, accelerator, *kept_by)
            snapshot = self._stored(
                key, spec, lambda work: self._builder.save_and_end(make(), work)
            )
            source = self._builder.load(snapshot, spec, accelerator)
        elif spec.disks:
            # Forked from this machine, each clone would copy all that it has written.
            snapshot = self._builder.save_and_end(make())
            source = self._builder.load(snapshot, spec, accelerator, temporary=True)
        else:
            process = make()
            try:
                source = self.capture(process)
            finally:
                process.end()
        self._prepared.append(source)
        return source

    def capture(self, process: VmmProcess) -> CloneSource:
        """The source for clones of a running machine as it is now; the machine continues.

        Raises:
            CoreInfraError: it cannot be made; the machine continues all the same.
        """
        return self._builder.capture(process)

    def capture_together(
        self, processes: Sequence[VmmProcess], networks: Sequence[Lan]
    ) -> tuple[list[CloneSource], list[Frames]]:
        """The sources for clones of some machines, and the frames that are under way between them.

        All machines stand still before the first one is copied, and continue afterwards.

        Args:
            processes: the machines.
            networks: all their networks.
        """
        with standing_still(processes, networks) as (nonces, frames):
            pasts = [process.console.text().encode() for process in processes]
            copies = zip(processes, nonces, pasts, strict=True)
            with contextlib.ExitStack() as undo:
                sources = []
                for process, nonce, past in copies:
                    sources.append(self._builder.copy(process, nonce, past))
                    undo.callback(sources[-1].close)
                undo.pop_all()
        return sources, frames

    def clone_together(
        self, nodes: Sequence[Node], networks: Sequence[tuple[Lan, Frames]]
    ) -> list[tuple[VmmProcess, Mapping[str, str]]]:
        """Clones of machines that :meth:`capture_together` has captured, like :meth:`clone`'s.

        Args:
            nodes: the machines.
            networks: their networks, and the frames that are under way there.
        """
        limit = timeouts.scaled(RESUME_TIMEOUT) * len(nodes)

        def resume(node: Node, process: VmmProcess) -> Mapping[str, str]:
            nonce = node.source.nonce
            ack = self._verifier.resume(
                process, name=node.name, nonce=nonce, limit=limit, cards=node.cards
            )
            return ack.info

        return start_together(nodes, networks, resume, die_with_parent=self._die_with_parent)

    def keep(self, sources: Sequence[CloneSource]) -> None:
        """Close prepared sources with the others, unless they are forgotten before."""
        self._prepared += sources

    def clone(
        self, source: CloneSource, directory: Path, name: str, past: bytes, cards: bytes = b""
    ) -> tuple[VmmProcess, Mapping[str, str]]:
        """A clone, running and verified, and what its agent reports of the guest.

        Args:
            source: what it is made from.
            directory: where its files go.
            name: the machine's.
            past: what to append to the console's log first.
            cards: the setup of its cards on networks of the run.

        Raises:
            CoreInfraError: it cannot be made, or a check failed; nothing is left of it.
        """
        limit = timeouts.scaled(RESUME_TIMEOUT)
        process = source.clone(
            directory, name=name, past=past, die_with_parent=self._die_with_parent
        )
        try:
            ack = self._verifier.resume(
                process, name=name, nonce=source.nonce, limit=limit, cards=cards
            )
        except BaseException:
            process.end()
            raise
        return process, ack.info

    @contextlib.contextmanager
    def scratch(self, source: CloneSource) -> Iterator[tuple[AgentClient, Mapping[str, str]]]:
        """Within the block, the agent of a clone that nobody else uses, and its guest's facts.

        Raises:
            CoreInfraError: it cannot be made.
        """
        name = f"scratch{next(self._numbers)}"
        directory = self._make_directory(name)
        try:
            process, info = self.clone(source, directory, name, b"")
            try:
                yield process.agent, info
            finally:
                process.end()
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def start(
        self, source: CloneSource, directory: Path, name: str, cards: bytes = b""
    ) -> tuple[VmmProcess, Mapping[str, str]]:
        """A clone like :meth:`clone`'s, but a ready one if there is one.

        Args:
            source: what it is made from.
            directory: an empty one, for its files.
            name: the machine's.
            cards: the setup of its cards on networks of the run.
        """
        ready = self._pool.take(source)
        if ready is None:
            return self.clone(source, directory, name, source.past, cards)
        try:
            ready.rename(name, directory)
            nonce, limit = ready.agent.nonce, timeouts.scaled(RESUME_TIMEOUT)
            ack = self._verifier.resume(ready, name=name, nonce=nonce, limit=limit, cards=cards)
        except BaseException:
            ready.end()
            raise
        return ready, ack.info

    def launch_again(self, former: VmmProcess, past: bytes) -> VmmProcess:
        """Start a machine whose process has ended, from its disks; nothing is waited for.

        Args:
            former: the process.
            past: what to append to the console's log first.
        """
        process = launch(
            self._hypervisor,
            former.spec,
            former.accelerator,
            former.directory,
            written=former.disks,
            die_with_parent=self._die_with_parent,
            past=past,
            server=fork_server(former.accelerator),
        )
        process.identity = former.identity
        return process

    def boot_again(
        self, former: VmmProcess, past: bytes, limit: float
    ) -> tuple[VmmProcess, Mapping[str, str]]:
        """Boot a machine whose process has ended, from its disks.

        Args:
            former: the process.
            past: what to append to the console's log first.
            limit: seconds that it may take.

        Returns:
            The new process, and what its agent reports of the guest.

        Raises:
            BootError: it did not come up; nothing is left of it but its files.
        """
        process = self.launch_again(former, past)
        try:
            info = await_agent(process, former.spec, limit).info
            if process.identity is not None:
                process.agent.thaw(**process.identity._asdict())
        except BaseException:
            process.end()
            raise
        return process, info

    def forget(self, source: CloneSource) -> None:
        """End a source that :meth:`prepared_source` returned."""
        self._pool.forget(source)
        if source in self._prepared:  # else close() has ended it
            self._prepared.remove(source)
            source.close()

    def pausing(self) -> AbstractContextManager[object]:
        """While this is held, no clone is made in the background."""
        return self._pool.pausing()

    def close(self) -> None:
        """End all sources and ready clones; machines that were handed out live on."""
        self._pool.close()
        with self._lock:
            for source in (*self._sources.values(), *self._prepared):
                source.close()
            self._sources.clear()
            self._prepared.clear()
        if self._warm is not None:
            self._warm.close()

    def _make_ready(self, source: CloneSource) -> VmmProcess:
        name = f"ready{next(self._numbers)}"
        process, _ = self.clone(source, self._make_directory(name), name, source.past)
        try:
            AgentGuest(process.agent).exec("echo hi")  # copies the pages that this writes to
        except BaseException:
            process.end()
            raise
        return process

    def _booted_snapshot(self, key: str, spec: MachineSpec, accelerator: str) -> Snapshot:
        return self._stored(
            key, spec, lambda work: self._builder.save_booted(spec, accelerator, work)
        )

    def _stored(self, key: str, spec: MachineSpec, save: Callable[[Path], Snapshot]) -> Snapshot:
        try:
            # A disk that gets full while the machine writes its memory ends the hypervisor.
            return self._store.get(key, save, room=spec.memory << 20)
        except OSError as error:
            raise UnavailableError("a machine cannot be saved", why=str(error)) from error
        finally:
            report_news(self._progress)
