"""The machines of a test or of several: booted when asked for, described if a test fails."""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import TYPE_CHECKING, Any

import pytest

from core_infra._unpatched import Path, shutil, time
from core_infra.errors import InvalidError
from core_infra.vm._machine_lifecycle import Status
from pytest_core_infra._reports import FAILURES
from pytest_core_infra._vm import describe

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from core_infra.vm._guest.results import ExecResult
    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine import Machine
    from pytest_core_infra._vm.owner import Owner
    from pytest_core_infra._vm.session import VmSession

FACTORY = pytest.StashKey["MachineFactory"]()
"""Where a test keeps its factory."""

_BEFORE = "core-infra: before the test"
"""The snapshot that a shared machine goes back to between tests."""


class MachineFactory:
    """Boots machines for one test, or for the tests of a class, a module or the session.

    What the fixture ``core_vm_factory`` and those named after scopes return.

    Args:
        session: boots and ends them.
        owner: whose machines they are.
        asked_for: what markers ask for: arguments of a call.
        tmp_path_factory: makes the directory for the consoles' logs if a test fails.
        revert: machines go back between tests to what they were before; None: not possible, as
            only one test has them.
    """

    def __init__(
        self,
        session: VmSession,
        owner: Owner,
        asked_for: Mapping[str, Any],
        tmp_path_factory: pytest.TempPathFactory,
        *,
        revert: bool | None = None,
    ) -> None:
        self.machines: list[Machine] = []
        self.owner = owner
        self._session = session
        self._asked_for = asked_for
        self._tmp_path_factory = tmp_path_factory
        self._revert = revert
        self._reverted: list[Machine] = []
        self._stale: list[Machine] = []
        self._seen: dict[Machine, ExecResult | None] = {}
        self._since_when: dict[Machine, float] = {}
        self._logs: Path | None = None
        self._failed = False

    def __call__(
        self,
        *,
        memory: int | None = None,
        cpus: int | None = None,
        disks: Sequence[str | os.PathLike[str]] | None = None,
        image: str | os.PathLike[str] | Bootable | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        cpu: str | None = None,
        arch: str | None = None,
        kernel: str | os.PathLike[str] | None = None,
        initrd: str | os.PathLike[str] | None = None,
        cmdline: str | None = None,
        name: str | None = None,
        timeout: float | None = None,
        cold: bool | None = None,
        revert: bool | None = None,
    ) -> Machine:
        """Start a machine and return it running.

        Args:
            memory: MiB.
            cpus: virtual processors.
            disks: sizes of empty ones, such as ``2G``, or images, which are never written to.
            image: what to boot: a path, or an Image.
            template: the name of a template of an image, which the program linuxkit builds.
            variables: the template's.
            cpu: the processor, as QEMU's ``-cpu`` takes it.
            arch: the architecture, ``x86_64`` or ``aarch64``.
            kernel: a kernel to boot instead of the image's.
            initrd: an initrd instead of the image's.
            cmdline: more for the kernel's command line, put after the image's own.
            name: what it is called in reports.
            timeout: seconds that it may take to boot.
            cold: boot it, though it could be cloned.
            revert: after each test that could use it, it goes back to what it was before; only for
                machines that tests share.

        Raises:
            InvalidError: a value is not possible.
            NotFoundError: there is no such image.
            BootError: it did not come up; carries the console's tail and the command.
        """
        given = {
            "memory": memory,
            "cpus": cpus,
            "disks": disks,
            "image": image,
            "template": template,
            "variables": variables,
            "cpu": cpu,
            "arch": arch,
            "kernel": kernel,
            "initrd": initrd,
            "cmdline": cmdline,
            "name": name,
            "timeout": timeout,
            "cold": cold,
        }
        chosen = {key: value for key, value in given.items() if value is not None}
        reverts = self._reverts(revert)
        return self._add(self._session.start(**{**self._asked_for, **chosen}), reverts=reverts)

    def add(self, machine: Machine) -> Machine:
        """Take a machine that was started for the owner: it is described and ended with it."""
        return self._add(machine, reverts=self._reverts(None))

    def _add(self, machine: Machine, *, reverts: bool) -> Machine:
        self.machines.append(machine)
        self._since_when[machine] = time.monotonic()
        if reverts:
            self._reverted.append(machine)
            self._stale.append(machine)
        return machine

    def is_used_by(self, item: pytest.Item) -> bool:
        """Whether a test can use the machines, or has run a command in one of them."""
        return self.owner.fixture in getattr(item, "fixturenames", ()) or any(
            self._has_run(machine) for machine in self.machines
        )

    def begin_report(self) -> None:
        """Another test begins: its report has what its machines do from now on."""
        self._seen = {machine: _last(machine) for machine in self.machines}
        self._since_when = dict.fromkeys(self.machines, time.monotonic())

    def sections(self) -> list[tuple[str, str]]:
        """For a failed test's report: what its machines have done since it began."""
        self._failed = True
        sections = []
        for machine in self.machines:
            if machine.pause is not None:
                sections.append((f"machine {machine.name} is paused", str(machine.pause)))
            try:
                sections.append(describe.console(machine, self._copy_log(machine)))
            except FAILURES as error:
                sections.append((f"machine {machine.name}: no console", str(error)))
            if results := self._since(machine):
                sections.append(describe.commands(machine, results))
            if self._is_kept(machine):
                sections.append(
                    describe.kept(machine)
                    if self._revert is None
                    else describe.kept_later(machine, self.owner.label)
                )
        return sections

    def uses(self) -> list[tuple[str, float]]:
        """The image of each machine that the test had, and for how many seconds."""
        now = time.monotonic()
        return [
            (machine.spec.image.name, now - self._since_when[machine]) for machine in self.machines
        ]

    def set_stale(self) -> None:
        """A fixture that tests share was set up or torn down: that is not to be undone."""
        self._stale = list(self._reverted)

    def before_test(self) -> None:
        """Remember what the machines go back to after the test."""
        for machine in self._stale:
            if machine.status is Status.RUNNING:
                machine.snapshot(_BEFORE)
        self._stale = [one for one in self._stale if one.status is not Status.RUNNING]

    def after_test(self) -> None:
        """Take the machines back to what they were before the test, also those that crashed."""
        for machine in self._reverted:
            if machine.status in (Status.RUNNING, Status.PAUSED, Status.FAILED):
                machine.revert(_BEFORE if machine not in self._stale else None)

    def release(self) -> None:
        """Its scope is over: keep its machines if that is wanted, else end them."""
        while self.machines:
            machine = self.machines.pop()
            if self._is_kept(machine):
                self._session.keep(machine, self.owner.label)
            else:
                self._session.discard(machine, self.owner.ending())

    def _reverts(self, asked: bool | None) -> bool:  # noqa: FBT001 - a value that is passed on
        if self._revert is not None:
            return self._revert if asked is None else asked
        if asked:
            raise InvalidError(
                "cannot revert a machine between tests",
                why="it is one test's own",
                todo="Use a fixture for several tests, such as core_vm_module.",
            )
        return False

    def _has_run(self, machine: Machine) -> bool:
        return _last(machine) is not self._seen.get(machine)

    def _since(self, machine: Machine) -> list[ExecResult]:
        """The commands of the test that runs, as far as they are remembered."""
        results, seen = list(machine.history), self._seen.get(machine)
        for number, result in enumerate(results):
            if result is seen:
                return results[number + 1 :]
        return results

    def _is_kept(self, machine: Machine) -> bool:
        keep = self._session.settings.keep
        wanted = keep == "always" or (keep == "failed" and self._failed)
        return wanted and machine.status in (Status.RUNNING, Status.PAUSED)

    def _copy_log(self, machine: Machine) -> str:
        """Copy the console's log to where it stays; says where, or why not."""
        try:
            if self._logs is None:
                self._logs = self._new_directory()
            target = self._logs / f"{machine.name}-console.log"
            shutil.copyfile(machine.directory / "console.log", target)
        except FAILURES as error:
            return f"it could not be copied: {error}"
        return f"all of it: {target}"

    def _new_directory(self) -> Path:
        # Not by mktemp(), which uses what a test may have patched.
        base = re.sub(r"\W", "_", self.owner.name)[:30]
        for number in itertools.count():
            directory = Path(self._tmp_path_factory.getbasetemp(), f"{base}-machines{number}")
            with contextlib.suppress(FileExistsError):
                directory.mkdir()
                break
        return directory


def _last(machine: Machine) -> ExecResult | None:
    return machine.history[-1] if machine.history else None
