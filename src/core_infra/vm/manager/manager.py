"""The manager of machines that outlive the command that started them."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core_infra.errors import InvalidError, NotFoundError, WrongStateError
from core_infra.vm.guest.command import ExecResult, as_argv
from core_infra.vm.hypervisors.detect import detect_hypervisor, get_hypervisor
from core_infra.vm.manager import images, volumes
from core_infra.vm.manager.acceleration import accelerator
from core_infra.vm.manager.container import (
    Access,
    Container,
    RunOptions,
    Status,
    checked_name,
)
from core_infra.vm.manager.entering import enter
from core_infra.vm.manager.executing import run_to_end
from core_infra.vm.manager.folder import Folder
from core_infra.vm.manager.foreground import Foreground
from core_infra.vm.manager.identity import ForeignProcess, start_of
from core_infra.vm.manager.linuxkit import LinuxKitProgram
from core_infra.vm.manager.logs import follow_log
from core_infra.vm.manager.starting import Starter, access_of
from core_infra.vm.manager.state import State
from core_infra.vm.manager.stopping import GRACE, monitor, stop_process
from core_infra.vm.manager.templates import TemplateManager
from core_infra.vm.manager.verdict import end_leftover, verdict
from core_infra.vm.sizes import check, fitting_memory

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from core_infra.medium.medium import Medium
    from core_infra.vm.access.access import GuestAccess
    from core_infra.vm.images.format import Bootable
    from core_infra.vm.manager.linuxkit import Assembler
    from core_infra.vm.manager.starting import Started

MACHINES = "machines"


class Manager(Protocol):
    """Runs machines and remembers them."""

    def run(self, image: str | os.PathLike[str], options: RunOptions | None = None) -> Container:
        """Run a machine."""

    def stop(self, id_: str) -> Container:
        """End a machine."""

    def list(self) -> builtins.list[Container]:
        """All machines, the last started first."""

    def logs(self, id_: str, *, follow: bool = False) -> Iterator[bytes]:
        """What a machine's console has printed."""

    def exec(self, id_: str, command: str | Sequence[str]) -> ExecResult:
        """Run a command in a machine to its end."""


class LinuxKitManager:
    """The machines of a user: LinuxKit's, the default image's, and of any disk that boots.

    Wherever a machine is asked for by an id, its name will do, or what only its id begins with.

    Args:
        medium: where templates are; by default the real file system.
        state: what is remembered; by default in the user's home.
        assembler: makes images of LinuxKit files; by default the program ``linuxkit``.
        tell: is given a line now and then while something takes long, or is missing.
    """

    def __init__(
        self,
        medium: Medium | None = None,
        *,
        state: State | None = None,
        assembler: Assembler | None = None,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.state = state or State(tell=tell)
        self.templates = TemplateManager(medium)
        self._assembler = assembler or LinuxKitProgram()
        self._tell = tell

    def folder(self, container: Container) -> Folder:
        """The directory of a machine."""
        return Folder(self.state.directory / MACHINES / container.id)

    def run(
        self,
        image: str | os.PathLike[str] | Bootable,
        options: RunOptions | None = None,
    ) -> Container:
        """Run a machine: to its end, with its console on this terminal, unless it is detached.

        Args:
            image: ``default``, or the path of an image, or an image.
            options: how; by default in the foreground.

        Returns:
            What is remembered of it.

        Raises:
            NotFoundError: there is no such image, or volume, or key.
            InvalidError: the image is nothing that boots, or a value is not possible.
            AlreadyExistsError: another machine has the name.
            UnavailableError: it did not start, or a program is missing; nothing is left of it.
        """
        options = options or RunOptions()
        found = images.find(image, arch=options.arch, tell=self._tell)
        return self._run(found, str(image if isinstance(image, str) else found.name), options)

    def run_template(
        self, name: str, variables: Mapping[str, str], options: RunOptions | None = None
    ) -> Container:
        """Run a machine made of a template; as :meth:`run` otherwise.

        Raises:
            MissingVariablesError: names all variables that it needs and that are not given.
        """
        options = options or RunOptions()
        text = self.templates.apply_template(name, variables)
        found = images.build(text, self._assembler, arch=options.arch, tell=self._tell)
        return self._run(found, f"template {name}", options)

    def stop(self, id_: str, *, grace: float = GRACE) -> Container:
        """End a machine: its guest is asked to shut down, and given *grace* seconds for that.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it does not run.
        """
        container = self._running(id_)
        process = ForeignProcess.find(container.pid, container.start)
        if process is None:
            return self.find(container.id)
        with process:
            how = stop_process(process, container, self.folder(container), grace=grace)
        changes = {"status": Status.STOPPED, "reason": how, "pid": None, "start": None}
        return self.state.update(container.id, **changes)

    def list(self) -> builtins.list[Container]:
        """All machines, the last started first; what runs is looked at, not only remembered."""
        return sorted(self._verified().values(), key=lambda one: one.started_at, reverse=True)

    def find(self, id_: str) -> Container:
        """A machine, by its id, its name, or what only its id begins with.

        Raises:
            NotFoundError: there is none.
            InvalidError: there are several.
        """
        known = self._verified()
        by_name = {one.name: one for one in known.values()}
        if found := known.get(id_) or by_name.get(id_):
            return found
        matches = [one for one in known.values() if id_ and one.id.startswith(id_)]
        if len(matches) > 1:
            shown = ", ".join(f"{one.id} ({one.name})" for one in matches)
            raise InvalidError(f"several machines begin with {id_!r}", why=shown)
        if not matches:
            names = ", ".join(sorted(by_name)) or "none"
            raise NotFoundError(f"there is no machine {id_!r}", why=f"there is {names}")
        return matches[0]

    def logs(self, id_: str, *, follow: bool = False) -> Iterator[bytes]:
        """What a machine's console has printed, piece by piece.

        Args:
            id_: the machine's.
            follow: go on with what is to come, until the machine has ended.

        Raises:
            NotFoundError: there is no such machine.
        """
        container = self.find(id_)
        process = ForeignProcess.find(container.pid, container.start) if follow else None
        return follow_log(self.folder(container).console_log, process)

    def exec(
        self,
        id_: str,
        command: str | Sequence[str],
        *,
        timeout: float | None = None,
        wait: float | None = None,
    ) -> ExecResult:
        """Run a command in a machine to its end; a string is a line for its shell.

        Args:
            id_: the machine's.
            command: what to run.
            timeout: seconds after which the command is killed; None lets it take its time.
            wait: seconds that the machine may take until it lets somebody in.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it does not run.
            NoAccessError: there is no way into it.
            TimeoutExpiredError: the command did not end in time.
        """
        argv = as_argv(command)
        access = self.enter(id_, timeout=wait)
        try:
            return run_to_end(access, argv, timeout=timeout)
        finally:
            access.close()

    def enter(self, id_: str, *, timeout: float | None = None) -> GuestAccess:
        """A way into a machine, once it lets somebody in; to be closed.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it does not run.
            NoAccessError: no way in opens in time.
        """
        container = self._running(id_)
        if not container.ready:  # its starter may have been killed before he let it run
            monitor(self.folder(container), "cont")
        kind, access = enter(
            container,
            self.folder(container),
            timeout=timeout,
            alive=lambda: self._lives(container),
            tell=self._tell,
        )
        # QEMU's agent often answers before the SSH server, which does more, has its key.
        if kind is Access.SSH and kind is not container.access:
            self.state.update(container.id, access=kind)
        try:
            self._make_ready(container.id, access)
        except BaseException:
            access.close()
            raise
        return access

    def remove(self, id_: str, *, force: bool = False) -> Container:
        """Forget a machine, and remove its files.

        Args:
            id_: the machine's.
            force: end it if it runs, at once.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it runs.
        """
        container = self.find(id_)
        if container.status is Status.RUNNING:
            if not force:
                raise WrongStateError(
                    f"cannot remove machine {container.name}",
                    why="it runs",
                    todo=f"Stop it first (core-infra vm stop {container.name}), or use --force.",
                    needed=Status.STOPPED,
                    found=Status.RUNNING,
                )
            self.stop(container.id, grace=0)
        folder = self.folder(container)
        end_leftover(folder)
        folder.remove()
        return self.state.remove(container.id)

    def prune(self) -> builtins.list[Container]:
        """Remove all machines that do not run."""
        idle = [one for one in self.list() if one.status is not Status.RUNNING]
        return [self.remove(one.id) for one in idle]

    def _run(self, image: Bootable, shown: str, options: RunOptions) -> Container:
        images.check(image, options)
        hypervisor = (
            get_hypervisor(options.hypervisor) if options.hypervisor else detect_hypervisor()
        )
        chosen = accelerator(hypervisor, options.accelerator, self._tell)
        container = self._reserve(image, shown, options, hypervisor.name, chosen)
        folder = self.folder(container)
        try:
            folder.make()
            starter = Starter(
                container,
                image,
                folder,
                hypervisor=hypervisor,
                accelerator=chosen,
                options=options,
                tell=self._tell,
            )
            started = starter.start(lambda facts: self.state.update(container.id, **facts))
            if options.detach and started.shares:
                self.enter(container.id).close()
        except BaseException:
            self._forget(container, folder)
            raise
        if started.console is not None:
            self._foreground(container, started)
        return self.find(container.id)

    def _reserve(
        self,
        image: Bootable,
        shown: str,
        options: RunOptions,
        hypervisor: str,
        chosen: str,
    ) -> Container:
        id_ = secrets.token_hex(4)
        memory = fitting_memory(image) if options.memory is None else options.memory
        check(memory, options.cpus)
        name = _made_up(image.name, id_) if options.name is None else options.name
        container = Container.model_validate(
            {
                "id": id_,
                "name": checked_name(name),
                "image": shown,
                # Until the hypervisor runs, the machine lives and dies with who starts it.
                "pid": os.getpid(),
                "start": start_of(os.getpid()),
                "starting": True,
                "volumes": {
                    str(Path(path).expanduser().absolute()): place
                    for path, place in options.volumes.items()
                },
                "memory": memory,
                "cpus": options.cpus,
                "hypervisor": hypervisor,
                "accelerator": chosen,
                "access": access_of(image),
                "ssh_user": options.ssh_user,
                "ssh_key": options.ssh_key,
            }
        )
        self.state.add(container)
        return container

    def _forget(self, container: Container, folder: Folder) -> None:
        current = self.state.load().get(container.id, container)
        process = ForeignProcess.find(current.pid, current.start)
        if process is not None:
            with process:
                if not current.starting:
                    stop_process(process, current, folder, grace=0)
        end_leftover(folder)
        folder.remove()
        self.state.remove(container.id)

    def _make_ready(self, id_: str, access: GuestAccess) -> None:
        container = self.find(id_)  # as it is now: another may have entered before
        if container.ready:
            return
        folder = self.folder(container)
        shares = volumes.shares(container.volumes, folder, by_virtiofs=volumes.is_served(folder))
        volumes.mount(access, shares, [*container.volumes.values()])
        self.state.update(id_, ready=True)

    def _foreground(self, container: Container, started: Started) -> None:
        mount = (lambda: self.enter(container.id).close()) if started.shares else None
        assert started.console is not None  # noqa: S101 - looked at by the caller
        has_ended = False
        try:
            has_ended = Foreground(started.console, mount, self._tell).run()
        finally:  # also if this program is told to end
            if has_ended:
                started.child.wait(GRACE)  # its console closes a moment before it has ended
            elif self._lives(container):
                self.stop(container.id)

    def _verified(self) -> dict[str, Container]:
        known = self.state.load()
        if not any(verdict(one, self.folder(one)) for one in _runs(known)):
            return known
        # Once more with the lock held: what was read may have been changed meanwhile.
        with self.state.changing() as current:
            for one in _runs(current):
                if changes := verdict(one, self.folder(one)):
                    current[one.id] = one.model_copy(update=changes)
            return dict(current)

    def _running(self, id_: str) -> Container:
        container = self.find(id_)
        if container.status is not Status.RUNNING:
            reason = f": {container.reason}" if container.reason else ""
            raise WrongStateError(
                f"machine {container.name} does not run",
                why=f"it is {container.status}{reason}",
                needed=Status.RUNNING,
                found=container.status,
            )
        return container

    def _lives(self, container: Container) -> bool:
        return self.find(container.id).status is Status.RUNNING


def _runs(known: Mapping[str, Container]) -> builtins.list[Container]:
    return [one for one in known.values() if one.status is Status.RUNNING]


def _made_up(image: str, id_: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", image.partition(" ")[0].partition(".")[0]).strip("-")
    return f"{stem[:40] or 'machine'}-{id_[:4]}"
