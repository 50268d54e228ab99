"""Clones of whatever machine is asked for: its snapshot is made, loaded and forked as need be."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import shutil, time
from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.vm import _timeouts
from core_infra.vm._boot import BOOT_TIMEOUT, await_agent, boot_limit
from core_infra.vm._cache import tell_news
from core_infra.vm._free_space import is_full, no_room
from core_infra.vm._hypervisors.disposable import MemoryFile
from core_infra.vm._hypervisors.fork_server import ForkServer
from core_infra.vm._snapshots import snapshot as files
from core_infra.vm._snapshots.clone_source import ForkSource, SnapshotSource
from core_infra.vm._snapshots.key import identity
from core_infra.vm._snapshots.migration import save
from core_infra.vm._snapshots.pool import Pool
from core_infra.vm._snapshots.resume import AgentGuest, CloneVerifier, rouse, sleep, warm_up
from core_infra.vm._snapshots.snapshot import Snapshot
from core_infra.vm._vmm_process import CONSOLE, fork, launch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from core_infra.vm._hypervisors.disposable import Hypervisor, MachineSpec
    from core_infra.vm._snapshots.clone_source import Template
    from core_infra.vm._snapshots.store import SnapshotStore
    from core_infra.vm._vmm_process import VmmProcess

WAKE_TIMEOUT = 2.0
"""Seconds, before scaling, that a clone may take to answer."""


class Cloner:
    """Clones machines.

    Args:
        hypervisor: what runs them.
        store: the snapshots on disk.
        place: makes a directory for a machine of the given name.
        progress: is given a line when something takes long.
        die_with_parent: clones end when this process does, however that ends.
        ready: how many clones of each template are made before they are asked for.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        store: SnapshotStore,
        place: Callable[[str], Path],
        progress: Callable[[str], None],
        *,
        die_with_parent: bool,
        ready: int,
    ) -> None:
        self._waker = CloneVerifier()
        self._die_with_parent = die_with_parent
        self._hypervisor = hypervisor
        self._store = store
        self._place = place
        self._progress = progress
        self._lock = threading.Lock()
        self._templates: dict[str, Template] = {}
        self._prepared: list[Template] = []
        self._numbers = itertools.count(1)
        self._pool = Pool(ready, self._make_ready)

    def template(self, spec: MachineSpec, accelerator: str) -> Template:
        """What machines like *spec* are cloned from.

        Raises:
            CoreInfraError: it cannot be made; a cold boot may still work.
        """
        key = identity(self._hypervisor, spec, accelerator)
        with self._lock:  # whoever comes second waits for the first one's
            if key in self._templates and not self._templates[key].is_whole():
                self._templates.pop(key).close()  # its files are gone with the cache
            if key not in self._templates:
                snapshot = self._stored(
                    key, spec, lambda work: self._save_booted(spec, accelerator, work)
                )
                if spec.image.has_agent:  # another one's boot tells nothing of the host
                    _timeouts.record_boot(snapshot.boot_seconds)
                self._templates[key] = self._loaded(snapshot, spec, accelerator)
            return self._templates[key]

    def prepare(self, spec: MachineSpec, accelerator: str) -> None:
        """Have the snapshot of machines like *spec* saved, so that nobody waits for it later."""
        key = identity(self._hypervisor, spec, accelerator)
        self._stored(key, spec, lambda work: self._save_booted(spec, accelerator, work))

    def prepared(
        self,
        spec: MachineSpec,
        accelerator: str,
        make: Callable[[], VmmProcess],
        kept_by: Sequence[str],
    ) -> Template:
        """A template of a machine that somebody prepares.

        Args:
            spec: what the machine is made of.
            accelerator: how its instructions run.
            make: gives the machine, prepared; it is ended when it has been saved.
            kept_by: what it is kept by on this host, for later runs; nothing keeps it in memory.
        """
        if not kept_by and spec.disks:
            # Forked from this machine, each clone would copy all that it has written.
            work = self._place(f"saved{next(self._numbers)}")
            snapshot = self._save_prepared(make(), work)
            template = self._loaded(snapshot, spec, accelerator, temporary=True)
        elif not kept_by:
            instance = make()
            try:
                template = self.freeze(instance)
            finally:
                instance.end()
        else:
            key = identity(self._hypervisor, spec, accelerator, *kept_by)
            snapshot = self._stored(key, spec, lambda work: self._save_prepared(make(), work))
            template = self._loaded(snapshot, spec, accelerator)
        self._prepared.append(template)
        return template

    def clone(
        self, template: Template, directory: Path, name: str, past: bytes
    ) -> tuple[VmmProcess, Mapping[str, str]]:
        """A clone, awake and proven, and what its agent says of the guest.

        Args:
            template: what it is made from.
            directory: where its files go.
            name: the machine's.
            past: what its console's log begins, or goes on, with.

        Raises:
            CoreInfraError: there is none, or it is not what it must be; nothing is left of it.
        """
        limit = _timeouts.scaled(WAKE_TIMEOUT)
        instance = template.clone(
            directory, name=name, past=past, die_with_parent=self._die_with_parent
        )
        try:
            ack = self._waker.wake(instance, name=name, nonce=template.nonce, limit=limit)
        except BaseException:
            instance.end()
            raise
        return instance, ack.info

    def start(
        self, template: Template, directory: Path, name: str
    ) -> tuple[VmmProcess, Mapping[str, str]]:
        """A clone as :meth:`clone` makes it, but a ready one if there is one.

        Args:
            template: what it is made from.
            directory: an empty one, for its files.
            name: the machine's.
        """
        ready = self._pool.take(template)
        if ready is None:
            return self.clone(template, directory, name, template.past)
        try:
            ready.rename(name, directory)
            nonce, limit = ready.agent.nonce, _timeouts.scaled(WAKE_TIMEOUT)
            ack = self._waker.wake(ready, name=name, nonce=nonce, limit=limit)
        except BaseException:
            ready.end()
            raise
        return ready, ack.info

    def _make_ready(self, template: Template) -> VmmProcess:
        name = f"ready{next(self._numbers)}"
        instance, _ = self.clone(template, self._place(name), name, template.past)
        try:
            AgentGuest(instance.agent).exec("echo hi")  # the pages that this writes are its own now
        except BaseException:
            instance.end()
            raise
        return instance

    def freeze(self, instance: VmmProcess) -> Template:
        """A template of a running machine as it is now; the machine goes on.

        Raises:
            CoreInfraError: it cannot be made; the machine goes on all the same.
        """
        limit = _timeouts.scaled(WAKE_TIMEOUT)
        nonce = sleep(instance, limit)
        past = instance.console.text().encode()
        try:
            return self._copy(instance, nonce, past)
        finally:
            rouse(instance, limit)

    def forget(self, template: Template) -> None:
        """End a template that :meth:`prepared` gave."""
        self._pool.forget(template)
        if template in self._prepared:  # else the launcher has ended it
            self._prepared.remove(template)
            template.close()

    def pausing(self) -> AbstractContextManager[object]:
        """While this is held, no clone is made in the background."""
        return self._pool.pausing()

    def close(self) -> None:
        """End all templates and what is ready; machines that were handed out live on."""
        self._pool.close()
        with self._lock:
            for template in (*self._templates.values(), *self._prepared):
                template.close()
            self._templates.clear()
            self._prepared.clear()

    def _stored(self, key: str, spec: MachineSpec, save: Callable[[Path], Snapshot]) -> Snapshot:
        try:
            # A disk that gets full while the machine writes its memory ends the hypervisor.
            return self._store.get(key, save, room=spec.memory << 20)
        except OSError as error:
            raise UnavailableError("a machine cannot be saved", why=str(error)) from error
        finally:
            tell_news(self._progress)

    def _loaded(
        self, snapshot: Snapshot, spec: MachineSpec, accelerator: str, *, temporary: bool = False
    ) -> Template:
        """The template of a snapshot: a hypervisor that can be forked, where that is possible."""
        saved = SnapshotSource(self._hypervisor, spec, accelerator, snapshot, temporary=temporary)
        if accelerator != "tcg":
            return saved  # a processor's own virtual machine cannot be forked with its process
        try:
            return self._forkable(saved)
        except UnavailableError as error:
            self._progress(f"clones are loaded and not forked: {error}")
            return saved

    def _forkable(self, saved: SnapshotSource) -> ForkSource:
        """Load a snapshot into a hypervisor that can be forked, and run it warm."""
        server = ForkServer()
        name = f"template{next(self._numbers)}"
        directory = self._place(name)
        try:
            instance = saved.clone(
                directory, name=name, past=b"", die_with_parent=True, server=server
            )
        except BaseException:
            server.close()
            raise
        try:
            limit = _timeouts.scaled(WAKE_TIMEOUT)
            self._waker.wake(instance, name=name, nonce=saved.nonce, limit=limit)
            warm_up(instance)
            nonce = sleep(instance, limit)
        except BaseException:
            instance.end()
            raise
        return ForkSource(instance, nonce, saved.past, saved)

    def _save_prepared(self, instance: VmmProcess, work: Path) -> Snapshot:
        """Save a prepared machine into the directory *work*, and end it."""
        limit = _timeouts.scaled(BOOT_TIMEOUT)
        try:
            nonce = sleep(instance, limit)
            save(instance, work, with_memory=True, timeout=limit)
            (work / files.CONSOLE).write_text(instance.console.text())
        finally:
            instance.end()
        return Snapshot(work, "", nonce, 0.0, self._facts(instance.spec, instance.accelerator))

    def _copy(self, instance: VmmProcess, nonce: str, past: bytes) -> Template:
        name = f"template{next(self._numbers)}"
        directory = self._place(name)
        if instance.server is not None:
            copy = fork(instance, directory, name=name, past=b"", die_with_parent=True)
            return ForkSource(copy, nonce, past)
        (directory / files.CONSOLE).write_bytes(past)
        limit = _timeouts.scaled(BOOT_TIMEOUT)
        save(instance, directory, with_memory=True, timeout=limit)
        snapshot = Snapshot(directory, "", nonce, 0.0, {})
        return SnapshotSource(
            self._hypervisor, instance.spec, instance.accelerator, snapshot, temporary=True
        )

    def _save_booted(self, spec: MachineSpec, accelerator: str, work: Path) -> Snapshot:
        """Boot a machine and save it into the directory *work*."""
        self._progress(
            f"booting a machine to clone from ({spec.image.name}, {spec.memory} MiB): once, then "
            "it is kept"
        )
        directory = self._place(f"builder{next(self._numbers)}")
        memory = MemoryFile(work / files.MEMORY, shared=True)
        builder = dataclasses.replace(spec, name="builder")
        instance = launch(self._hypervisor, builder, accelerator, directory, memory=memory)
        try:
            await_agent(instance, builder, boot_limit(spec.image))
            limit = _timeouts.scaled(BOOT_TIMEOUT)
            seconds = time.monotonic() - instance.child.started_at
            warm_up(instance, rounds=1)
            nonce = sleep(instance, limit)
            save(instance, work, with_memory=False, timeout=limit)
        except CoreInfraError as error:
            if is_full(work):  # its memory is a file there: QEMU was ended by SIGBUS
                raise no_room("a machine's memory", work) from error
            raise
        finally:
            instance.end()
        shutil.copyfile(directory / CONSOLE, work / files.CONSOLE)
        shutil.rmtree(directory, ignore_errors=True)
        return Snapshot(work, "", nonce, seconds, self._facts(spec, accelerator))

    def _facts(self, spec: MachineSpec, accelerator: str) -> dict[str, Any]:
        return {
            "image": spec.image.name,
            "memory": spec.memory,
            "cpus": spec.cpus,
            "hypervisor": f"{self._hypervisor.name} {self._hypervisor.version()}",
            "accelerator": accelerator,
        }
