"""The manager of machines that outlive the command that started them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core_infra.vm._images.linuxkit.detect import is_linuxkit
from core_infra.vm._images.linuxkit.image_cache import file_image, template_image
from core_infra.vm._images.linuxkit.templates import TemplateManager
from core_infra.vm._manager.console import follow_log
from core_infra.vm._manager.enter import MachineAccess
from core_infra.vm._manager.lifecycle import Lifecycle
from core_infra.vm._manager.process_identity import ForeignProcess
from core_infra.vm._manager.record import Container, ContainerStatus
from core_infra.vm._manager.registry import Registry
from core_infra.vm._manager.run_options import RunOptions, wanted_image
from core_infra.vm._manager.state_file import State
from core_infra.vm._manager.stop import GRACE

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from core_infra.medium import Medium
    from core_infra.vm._access.interface import GuestAccess
    from core_infra.vm._guest.results import ExecResult
    from core_infra.vm._images.image import Bootable
    from core_infra.vm._images.linuxkit.assemblers import Assembler
    from core_infra.vm._manager.pause import PauseWatch


class Manager(Protocol):
    """Runs machines and keeps records of them."""

    def run(self, image: str | os.PathLike[str], options: RunOptions | None = None) -> Container:
        """Run a machine."""

    def stop(self, id_: str) -> Container:
        """Stop a machine."""

    def list(self) -> builtins.list[Container]:
        """All machines, the last started one first."""

    def logs(self, id_: str, *, follow: bool = False) -> Iterator[bytes]:
        """The output of a machine's console."""

    def exec(self, id_: str, command: str | Sequence[str]) -> ExecResult:
        """Run a command in a machine to its end."""


class LinuxKitManager:
    """A user's persistent machines, with the default image, LinuxKit's images, or any disk.

    A machine is identified by its id, a unique prefix of its id, or its name.

    Args:
        medium: the file system with the user's templates; by default the real one. The state,
            disks and sockets are always in the real one, for other processes and QEMU.
        state: the file with the records; by default in the user's home.
        assembler: builds images from LinuxKit files; by default core-infra's own.
        progress: called with a line about slow steps and restrictions.

    Attributes:
        state: the file with the records.
        templates: the templates of images.
    """

    def __init__(
        self,
        medium: Medium | None = None,
        *,
        state: State | None = None,
        assembler: Assembler | None = None,
        progress: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.state = state or State(progress=progress)
        self.templates = TemplateManager(medium)
        self._assembler = assembler
        self._progress = progress
        self._registry = Registry(self.state)
        self._access = MachineAccess(self._registry, progress)
        self._lifecycle = Lifecycle(self._registry, self._access, progress)

    def run(
        self,
        image: str | os.PathLike[str] | Bootable,
        options: RunOptions | None = None,
    ) -> Container:
        """Run a machine. Unless it is detached: to its end, with its console on this terminal.

        Args:
            image: ``default``, or an image, its path, or its address, such as ``debian:12``.
            options: how it is run; by default in the foreground.

        Returns:
            Its record.

        Raises:
            NotFoundError: the image, a volume or a key does not exist.
            InvalidError: the image is not bootable, or a value is not possible.
            AlreadyExistsError: another machine has the name.
            UnavailableError: it did not start, or a program is missing; nothing is left of it.
        """
        options = options or RunOptions()
        arch = options.arch or None
        assembled = False
        if isinstance(image, (str, os.PathLike)) and is_linuxkit(image):
            assembled = True
            path = Path(image).absolute()
            assembler = self._assembler
            found: Bootable = file_image(
                path, assembler=assembler, arch=arch, progress=self._progress
            )
        else:
            found = wanted_image(image, options, self._progress)
        return self._lifecycle.run(
            found,
            str(image if isinstance(image, str) else found.name),
            options,
            adds_agent=assembled,
        )

    def run_template(
        self, name: str, variables: Mapping[str, str], options: RunOptions | None = None
    ) -> Container:
        """Run a machine with the image of a template; see :meth:`run`.

        Raises:
            MissingVariablesError: required variables are not given; names all of them.
            InvalidFileError: the template has mistakes; lists all of them.
        """
        options = options or RunOptions()
        found = template_image(
            name,
            variables,
            templates=self.templates,
            assembler=self._assembler,
            arch=options.arch or None,
            progress=self._progress,
        )
        return self._lifecycle.run(found, f"template {name}", options, adds_agent=True)

    def start(self, id_: str) -> Container:
        """Start a stopped machine again, in the background.

        It keeps its disk, name, id, ports, volumes and keys. Files in memory, such as all files of
        the default image, are lost.

        Raises:
            NotFoundError: there is no such machine, or its image does not exist any more.
            WrongStateError: it is running.
            InvalidError: its image was changed since.
            UnavailableError: it did not start; its record is unchanged.
        """
        return self._lifecycle.start(self.find(id_))

    def stop(self, id_: str, *, grace: float = GRACE) -> Container:
        """Stop a machine: ask its guest to shut down, and end it after *grace* seconds.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it is not running.
        """
        return self._lifecycle.stop(self._registry.running(id_), grace=grace)

    def restart(self, id_: str, *, grace: float = GRACE) -> Container:
        """Stop a machine if it is running (see :meth:`stop`), and start it (see :meth:`start`)."""
        container = self.find(id_)
        if container.status is ContainerStatus.RUNNING:
            self.stop(container.id, grace=grace)
        return self.start(container.id)

    def power_off(self, id_: str, *, timeout: float = GRACE) -> Container:
        """Shut a machine's guest down; unlike :meth:`stop`, do not end it otherwise.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it is not running.
            TimeoutExpiredError: it did not shut down within *timeout* seconds, and runs on.
        """
        return self._lifecycle.power_off(self._registry.running(id_), timeout=timeout)

    def power_cut(self, id_: str) -> Container:
        """End a machine at once, without asking its guest. What is on its disks is kept.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it is not running.
        """
        return self._lifecycle.power_cut(self._registry.running(id_))

    def remove(self, id_: str, *, force: bool = False) -> Container:
        """Remove a machine and its files, and return its last record.

        Args:
            id_: the machine.
            force: kill it first if it is running.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it is running.
        """
        return self._lifecycle.remove(self.find(id_), force=force)

    def prune(self) -> builtins.list[Container]:
        """Remove all machines that are not running."""
        idle = [one for one in self.list() if one.status is not ContainerStatus.RUNNING]
        return [self.remove(one.id) for one in idle]

    def list(self) -> builtins.list[Container]:
        """All machines, the last started one first, with their current status.

        The reason of a running machine that is paused, because this host's disk is full, says so.
        """
        return self._registry.list()

    def find(self, id_: str) -> Container:
        """The machine with this id, unique prefix of an id, or name.

        Raises:
            NotFoundError: no machine matches.
            InvalidError: several machines match.
        """
        return self._registry.find(id_)

    def logs(self, id_: str, *, follow: bool = False) -> Iterator[bytes]:
        """The output of a machine's console, piece by piece.

        Args:
            id_: the machine.
            follow: continue with new output until the machine has ended.

        Raises:
            NotFoundError: there is no such machine.
        """
        container = self.find(id_)
        process = ForeignProcess.find(container.pid, container.start) if follow else None
        return follow_log(self._registry.directory(container).console_log, process)

    def console_socket(self, id_: str) -> Path:
        """The UNIX socket of a machine's serial console, for one connection at a time.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it is not running.
        """
        return self._registry.directory(self._registry.running(id_)).socket_path("console")

    def exec(
        self,
        id_: str,
        command: str | Sequence[str],
        *,
        timeout: float | None = None,
        wait: float | None = None,
    ) -> ExecResult:
        """Run a command in a machine to its end; a string is a line for its shell.

        An OCI image's environment, directory and user apply.

        Args:
            id_: the machine.
            command: the command.
            timeout: seconds until the command is killed; None is no limit.
            wait: seconds for the machine to boot; None is a default.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it is not running.
            NoAccessError: it cannot be entered.
            TimeoutExpiredError: the command did not end in time.
            MachinePausedError: this host's disk is full.
        """
        return self._access.run(id_, command, timeout=timeout, wait=wait)

    def enter(
        self, id_: str, *, timeout: float | None = None, as_image: bool = False, user: str = ""
    ) -> GuestAccess:
        """Open a way into a machine, which runs commands there; close it after use.

        Missing volumes are mounted, such as after a reboot of the guest.

        Args:
            id_: the machine.
            timeout: seconds for the machine to boot; None is a default.
            as_image: run commands with an OCI image's environment, directory and user, and not as
                root.
            user: the user that they run as instead.

        Raises:
            NotFoundError: there is no such machine.
            WrongStateError: it is not running.
            NoAccessError: no way into it opens in time.
            InvalidError: the way into it cannot run commands as another user.
        """
        return self._access.enter(id_, timeout=timeout, as_image=as_image, user=user)

    def watch(self, id_: str) -> PauseWatch:
        """A context manager for waiting for a command: resumes the machine if it is paused.

        A machine is paused while this host's disk is full; *progress* is called with a line then.

        Raises:
            NotFoundError: there is no such machine.
        """
        return self._access.watch(id_)
