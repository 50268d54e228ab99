"""Boot machines: the run's directory, the choice of accelerator, and one place for clean-up."""

from __future__ import annotations

import itertools
import platform
import shlex
import shutil
import time
from typing import TYPE_CHECKING, Self

from core_infra.errors import (
    CoreInfraError,
    InvalidError,
    TimeoutExpiredError,
    UnavailableError,
    WrongStateError,
)
from core_infra.process.child import Child, spawn
from core_infra.vm import timeouts
from core_infra.vm.cache import cache_root
from core_infra.vm.console import Console
from core_infra.vm.guest.client import AgentClient
from core_infra.vm.hypervisors.accelerator import choose
from core_infra.vm.hypervisors.hypervisor import MachineSpec
from core_infra.vm.hypervisors.qemu import QemuHypervisor
from core_infra.vm.hypervisors.qmp import Qmp
from core_infra.vm.images.default import default_image
from core_infra.vm.machine import Machine
from core_infra.vm.rundir import RunDirectory, write_record
from core_infra.vm.wires import Wires

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm.hypervisors.hypervisor import Accelerator
    from core_infra.vm.images.image import Image

DEFAULT_MEMORY = 256
"""MiB of a machine with one of our own images that says nothing else."""

FOREIGN_MEMORY = 1024
"""MiB of a machine with any other image that says nothing else."""

MINIMUM_MEMORY = 64
"""MiB below which a kernel dies before it can say so."""

MAXIMUM_CPUS = 255
"""QEMU's limit for its PC machines."""

BOOT_TIMEOUT = 8.0
"""Seconds, before scaling, that a machine may take to answer."""


class BootError(UnavailableError):
    """A machine did not come up.

    Attributes:
        console: the console's last lines.
        command: the hypervisor's command line.
    """


class Launcher:
    """Boots machines, and ends every one of them when it is closed.

    Args:
        accelerator: "auto" (the best that works here), or one that must be used: "kvm", "hvf",
            "tcg"; UnavailableError at the first boot when it does not work.
        image: what machines boot that ask for no other; None is the default image.
        memory: their MiB; None is a default that fits the image.
        cpus: their virtual processors.
        outlive: machines can be left running with :meth:`keep` when this process ends. A machine
            that is not kept is stopped all the same; but if this process is killed, it runs on
            until the next launcher on this host sweeps it.
        progress: is given a line now and then while something takes long.
    """

    def __init__(
        self,
        *,
        accelerator: str = "auto",
        image: Image | None = None,
        memory: int | None = None,
        cpus: int = 1,
        outlive: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.hypervisor = QemuHypervisor()
        self._requested = accelerator
        self._image = image
        self._memory = memory
        self._cpus = cpus
        self._outlive = outlive
        self._progress = progress or (lambda _line: None)
        self._run: RunDirectory | None = None
        self._machines: list[Machine] = []
        self._numbers = itertools.count(1)
        self._accelerator: Accelerator | None = None

    @property
    def run(self) -> RunDirectory:
        """The directory of this launcher's machines, made (and dead runs swept) at first use."""
        if self._run is None:
            self._run = RunDirectory()
        return self._run

    @property
    def accelerator(self) -> Accelerator:
        """The accelerator and why; may boot a machine to find out, once per start of the host."""
        if self._accelerator is None:
            self._accelerator = choose(
                self._requested,
                probe=self._probe,
                # The image counts, too: one that boots nowhere says nothing of the accelerator.
                identity=f"{self.hypervisor.name} {self.hypervisor.version()} {self.image}",
                cache_dir=cache_root(),
                progress=self._progress,
            )
        return self._accelerator

    @property
    def image(self) -> Image:
        """What machines boot that ask for no other; the default image is built if need be."""
        if self._image is None:
            self._image = default_image(
                platform.machine(), cache_dir=cache_root(), progress=self._progress
            )
        return self._image

    def spec(
        self,
        name: str,
        *,
        image: Image | None = None,
        memory: int | None = None,
        cpus: int | None = None,
    ) -> MachineSpec:
        """What a machine will be made of, with this launcher's defaults.

        Raises:
            InvalidError: a value is not possible.
        """
        image = image or self.image
        if memory is None:
            memory = self._memory or (DEFAULT_MEMORY if image.has_agent else FOREIGN_MEMORY)
        if memory < MINIMUM_MEMORY:
            raise InvalidError(
                f"cannot boot a machine with {memory} MiB of memory",
                why=f"a Linux kernel needs at least {MINIMUM_MEMORY} MiB to say what is wrong",
                todo=f"The default is {DEFAULT_MEMORY}.",
            )
        cpus = self._cpus if cpus is None else cpus
        if not 1 <= cpus <= MAXIMUM_CPUS:
            raise InvalidError(
                f"cannot boot a machine with {cpus} cpus", why=f"1 to {MAXIMUM_CPUS} are possible"
            )
        return MachineSpec(name, image, memory, cpus)

    def boot(
        self,
        image: Image | None = None,
        *,
        name: str | None = None,
        memory: int | None = None,
        cpus: int | None = None,
        timeout: float | None = None,
    ) -> Machine:
        """Boot a machine and return it running.

        Args:
            image: what to boot; None is the launcher's image.
            name: its name within this launcher; None numbers them: ``vm1``, ``vm2``, ….
            memory: MiB; None is the launcher's, or a default that fits the image.
            cpus: virtual processors; None is the launcher's.
            timeout: seconds until it must answer; None is a default that fits this host.

        Raises:
            InvalidError: a value is not possible.
            BootError: it did not come up; carries the console's tail and the command.
            UnavailableError: QEMU, or the accelerator asked for, is not available.
        """
        if name is None:
            name = f"vm{next(self._numbers)}"
        spec = self.spec(name, image=image, memory=memory, cpus=cpus)
        limit = timeouts.scaled(BOOT_TIMEOUT) if timeout is None else timeout
        return self._boot(spec, self.accelerator.name, limit)

    def keep(self, machine: Machine) -> Path:
        """Leave a machine running; its directory, with the sockets to reach it, from now on.

        Raises:
            WrongStateError: the launcher was made without *outlive*.
        """
        if not self._outlive:
            raise WrongStateError(
                f"cannot keep machine {machine.name}",
                why="its launcher does not let machines outlive it",
                needed="outlive=True",
                found="outlive=False",
            )
        machine.detach()
        self._machines.remove(machine)
        return self.run.keep(machine.directory)

    def discard(self, machine: Machine) -> None:
        """Stop a machine and remove its files."""
        machine.stop()
        if machine in self._machines:
            self._machines.remove(machine)
            shutil.rmtree(machine.directory, ignore_errors=True)

    def close(self) -> None:
        """Stop every machine and remove the run's directory."""
        for machine in list(self._machines):
            self.discard(machine)
        if self._run is not None:
            self._run.close()
            self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _boot(self, spec: MachineSpec, accelerator: str, limit: float) -> Machine:
        started = time.monotonic()
        directory = self._machine_directory(spec.name)
        machine = None
        try:
            machine = self._launch(spec, accelerator, directory)
            self._await_agent(machine, limit)
        except BaseException as error:
            if machine is not None:
                machine.stop()
            shutil.rmtree(directory, ignore_errors=True)
            if isinstance(error, OSError) and not isinstance(error, CoreInfraError):
                raise UnavailableError(
                    f"cannot start machine {spec.name}",
                    why=str(error),
                    todo=f"Its files go to {directory.parent}; TMPDIR chooses another place.",
                ) from error
            raise
        machine.running(time.monotonic() - started)
        timeouts.record_boot(machine.boot_seconds)
        self._machines.append(machine)
        return machine

    def _machine_directory(self, name: str) -> Path:
        directory = self.run.path / name
        if not name or "/" in name or name.startswith(".") or not name.isprintable():
            raise InvalidError(
                f"cannot name a machine {name!r}",
                why="the name becomes a directory's",
                todo="Use letters, digits and dashes.",
            )
        try:
            directory.mkdir()
        except FileExistsError:
            raise InvalidError(
                f"cannot name a machine {name!r}", why="another one has that name"
            ) from None
        return directory

    def _launch(self, spec: MachineSpec, accelerator: str, directory: Path) -> Machine:
        wires = Wires(directory if self._outlive else None)
        try:
            command = self.hypervisor.command_line(
                spec,
                accelerator,
                monitor=wires.wire("monitor"),
                console=wires.wire("console"),
                agent=wires.wire("agent"),
            )
            (directory / "command").write_text(shlex.join(command) + "\n")
            with (directory / "hypervisor.log").open("wb") as output:
                child = spawn(
                    command,
                    output=output,
                    pass_fds=wires.fds(),
                    die_with_parent=not self._outlive,
                )
        except BaseException:
            wires.close()
            raise
        wires.inherited()
        try:
            return _connect(spec, child, wires, directory)
        except BaseException:
            child.stop(grace=0)
            wires.close()
            raise

    def _await_agent(self, machine: Machine, limit: float) -> None:
        """Wait for the guest's agent; BootError with all that is known if it does not come."""
        try:
            machine.begin_session(limit)
        except TimeoutExpiredError as error:
            why = machine.panic() or f"the guest agent did not answer within {limit:g} s"
            if not machine.spec.image.has_agent:
                why += " (does core-infra's agent run in this image?)"
            raise _boot_error(machine, why) from error
        except CoreInfraError as error:
            log = (machine.directory / "hypervisor.log").read_text(errors="replace").strip()
            why = machine.panic() or log or "it restarted, or QEMU ended without a word"
            raise _boot_error(machine, why) from error

    def _probe(self, accelerator: str, limit: float) -> str | None:
        """Boot a machine with *accelerator*; None if it works, else why it does not."""
        try:
            machine = self._boot(self.spec(f"probe-{accelerator}"), accelerator, limit)
        except BootError as error:
            return error.why.splitlines()[0]
        self.discard(machine)
        return None


def _connect(spec: MachineSpec, child: Child, wires: Wires, directory: Path) -> Machine:
    write_record(directory, child.pid, name=spec.name, image=spec.image.name)
    console = Console(wires.ours["console"], directory / "console.log")
    qmp = Qmp(wires.ours["monitor"])
    # The connection closes a moment before the process has ended, which tells more.
    agent = AgentClient(wires.ours["agent"], on_lost=lambda: None)
    return Machine(spec, child, qmp, agent, console)


def _boot_error(machine: Machine, why: str) -> BootError:
    tail = machine.console_tail()
    shown = f"the console's last lines:\n{tail}" if tail else "the console is empty"
    command = (machine.directory / "command").read_text().strip()
    return BootError(
        f"machine {machine.name} did not come up ({machine.spec.image.name})",
        why=f"{why}\n{shown}",
        todo=f"The command was: {command}",
        console=tail,
        command=command,
    )
