"""The manager of machines that outlive the command that started them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from core_infra.errors import (
    CoreInfraError,
    TimeoutExpiredError,
    UnavailableError,
    WrongStateError,
)
from core_infra.vm._access.interface import run_to_end
from core_infra.vm._guest.command import ExecResult, as_argv
from core_infra.vm._hypervisors.detect import detect_hypervisor, get_hypervisor
from core_infra.vm._images.linuxkit.assembly import LinuxKitProgram
from core_infra.vm._images.linuxkit.templates import TemplateManager
from core_infra.vm._manager import run_options, volumes
from core_infra.vm._manager.enter import enter
from core_infra.vm._manager.foreground import Foreground
from core_infra.vm._manager.launch_record import planned, recalled, renewed
from core_infra.vm._manager.logs import follow_log
from core_infra.vm._manager.pause import Watch, pause
from core_infra.vm._manager.process_identity import ForeignProcess
from core_infra.vm._manager.record import (
    Access,
    Container,
    RunOptions,
    Status,
)
from core_infra.vm._manager.registry import Register, end_leftover
from core_infra.vm._manager.run_options import accelerator
from core_infra.vm._manager.start import Starter
from core_infra.vm._manager.state_file import State
from core_infra.vm._manager.stop import GRACE, monitor, stop_process

if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from core_infra.medium._medium import Medium
    from core_infra.vm._access.interface import GuestAccess
    from core_infra.vm._images.formats import Bootable
    from core_infra.vm._images.linuxkit.assembly import Assembler
    from core_infra.vm._manager.machine_directory import MachineDirectory
    from core_infra.vm._manager.start import Started


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


class LinuxKitManager(Register):
    """The machines of a user: LinuxKit's, the default image's, and of any disk that boots.

    Args:
        medium: where templates are; by default the real file system. The state, disks and
            sockets are on the real disk all the same: other processes and QEMU work with them.
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
        super().__init__(state or State(tell=tell))
        self.templates = TemplateManager(medium)
        self._assembler = assembler or LinuxKitProgram()
        self._tell = tell

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
        found = run_options.find(image, arch=options.arch, tell=self._tell)
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
        found = run_options.build(text, self._assembler, arch=options.arch, tell=self._tell)
        return self._run(found, f"template {name}", options)

    def stop(self, id_: str, *, grace: float = GRACE) -> Container:
        """End a machine: its guest is asked to shut down, and given *grace* seconds for that.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it does not run.
        """
        container = self.running(id_)
        process = ForeignProcess.find(container.pid, container.start)
        if process is None:
            return self.find(container.id)
        with process:
            how = stop_process(process, container, self.folder(container), grace=grace)
        changes = {"status": Status.STOPPED, "reason": how, "pid": None, "start": None}
        return self.state.update(container.id, **changes)

    def start(self, id_: str) -> Container:
        """Start a machine that does not run, in the background.

        It has what it had: its disk, name and id, its ports, volumes and keys. What was in memory
        only, as all files of the default image are, is gone.

        Raises:
            NotFoundError: there is no such machine, or its image is gone.
            WrongStateError: it runs.
            InvalidError: its image was changed since.
            UnavailableError: it did not start; it is remembered as before.
        """
        before = self.find(id_)
        folder = self.folder(before)
        if before.status is not Status.RUNNING:
            end_leftover(folder)
            image, options = recalled(before, folder, self._tell)
        with self.state.changing() as known:
            if known[before.id].status is Status.RUNNING:
                raise WrongStateError(
                    f"machine {before.name} runs already",
                    todo=f"To start it anew: core-infra vm restart {before.name}",
                    needed=Status.STOPPED,
                    found=Status.RUNNING,
                )
            container = known[before.id] = renewed(before, image, folder)
        try:
            started = self._starter(container, image, options).start(
                lambda facts: self.state.update(container.id, **facts)
            )
        except BaseException:
            self._end(container, folder)
            with self.state.changing() as known:
                known[before.id] = before
            raise
        if started.shares:
            self._mount(container)
        return self.find(container.id)

    def restart(self, id_: str, *, grace: float = GRACE) -> Container:
        """End a machine if it runs, as :meth:`stop` does, and start it, as :meth:`start` does."""
        container = self.find(id_)
        if container.status is Status.RUNNING:
            self.stop(container.id, grace=grace)
        return self.start(container.id)

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
            MachinePausedError: this host has no room for what the machine writes.
        """
        argv = as_argv(command)
        access = self.enter(id_, timeout=wait)
        try:
            with self.watch(id_):
                return run_to_end(access, argv, timeout=timeout)
        except TimeoutExpiredError as error:
            container = self.find(id_)
            raise (pause(container, self.folder(container)) or error) from None
        finally:
            access.close()

    def watch(self, id_: str) -> Watch:
        """To be entered while a command is waited for: a machine without room is told, and goes on.

        Raises:
            NotFoundError: there is no such machine.
        """
        container = self.find(id_)
        return Watch(container, self.folder(container), self._tell)

    def enter(self, id_: str, *, timeout: float | None = None) -> GuestAccess:
        """A way into a machine, once it lets somebody in; to be closed.

        Volumes that are not mounted, as after a restart of the guest, are mounted.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it does not run.
            NoAccessError: no way in opens in time.
        """
        access = self._enter(id_, timeout=timeout)
        try:
            self._make_ready(id_, access)
        except CoreInfraError as error:
            self._tell(str(error))  # to look at what is wrong there, one must get in
        except BaseException:
            access.close()
            raise
        return access

    def _enter(self, id_: str, *, timeout: float | None = None) -> GuestAccess:
        container = self.running(id_)
        if error := pause(container, self.folder(container)):
            raise error
        if not container.ready:  # its starter may have been killed before he let it run
            monitor(self.folder(container), "cont")
        kind, access = enter(
            container,
            self.folder(container),
            timeout=timeout,
            alive=lambda: self.runs(container),
            tell=self._tell,
        )
        # QEMU's agent often answers before the SSH server, which does more, has its key.
        if kind is Access.SSH and kind is not container.access:
            self.state.update(container.id, access=kind)
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
        run_options.check(image, options)
        hypervisor = (
            get_hypervisor(options.hypervisor) if options.hypervisor else detect_hypervisor()
        )
        chosen = accelerator(hypervisor, options.accelerator, image.arch, self._tell)
        container = planned(image, shown, options, hypervisor=hypervisor.name, accelerator=chosen)
        self.state.add(container)
        folder = self.folder(container)
        try:
            folder.make()
            starter = self._starter(container, image, options)
            started = starter.start(lambda facts: self.state.update(container.id, **facts))
        except BaseException:
            self._forget(container, folder)
            raise
        if started.console is not None:
            self._foreground(container, started)
        elif started.shares:
            self._mount(container)
        return self.find(container.id)

    def _mount(self, container: Container) -> None:
        """Mount a machine's volumes once it lets somebody in; it runs on if that fails."""
        try:
            access = self._enter(container.id)
            try:
                self._make_ready(container.id, access)
            finally:
                access.close()
        except CoreInfraError as error:
            raise UnavailableError(
                f"machine {container.name} runs, but without its volumes",
                why=error.what + (f": {error.why}" if error.why else ""),
                todo=error.todo,
            ) from error

    def _starter(self, container: Container, image: Bootable, options: RunOptions) -> Starter:
        return Starter(
            container,
            image,
            self.folder(container),
            hypervisor=get_hypervisor(container.hypervisor),
            accelerator=container.accelerator,
            options=options,
            tell=self._tell,
        )

    def _forget(self, container: Container, folder: MachineDirectory) -> None:
        self._end(container, folder)
        folder.remove()
        self.state.remove(container.id)

    def _end(self, container: Container, folder: MachineDirectory) -> None:
        """End what a start that failed has left."""
        current = self.state.load().get(container.id, container)
        process = ForeignProcess.find(current.pid, current.start)
        if process is not None:
            with process:
                if not current.starting:
                    stop_process(process, current, folder, grace=0)
        end_leftover(folder)

    def _make_ready(self, id_: str, access: GuestAccess) -> None:
        container = self.find(id_)  # as it is now: another may have entered before
        # Where the agent is, a restart of the guest ends the machine; a disk's comes back.
        if container.ready and (not container.mounts or container.access is Access.AGENT):
            return
        if container.mounts:
            served = volumes.is_served(self.folder(container))
            shares = volumes.shares(container.mounts, by_virtiofs=served)
            volumes.mount(access, shares, container.mounts)
        if not container.ready:
            self.state.update(container.id, ready=True)

    def _foreground(self, container: Container, started: Started) -> None:
        mount = (lambda: self._mount(container)) if started.shares else None
        assert started.console is not None  # noqa: S101 - looked at by the caller
        has_ended = False
        try:
            with self.watch(container.id):
                has_ended = Foreground(started.console, mount, self._tell).run()
        finally:  # also if this program is told to end
            if has_ended:
                started.child.wait(GRACE)  # its console closes a moment before it has ended
            elif self.runs(container):
                self.stop(container.id)
