"""The machines of one test: booted when it asks, described if it fails, gone after it."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.vm.machine import Status
from pytest_core_infra import describe

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from core_infra.vm.images.format import Bootable
    from core_infra.vm.machine import Machine
    from pytest_core_infra.session import VmSession

FACTORY = pytest.StashKey["MachineFactory"]()
"""Where a test keeps its factory."""


class MachineFactory:
    """Boots machines for one test; what the fixture ``core_vm_factory`` gives.

    Args:
        session: boots and ends them.
        item: the test.
        asked_for: what its marker asks for: arguments of a call.
        tmp_path_factory: makes the directory for the consoles' logs if the test fails.
    """

    def __init__(
        self,
        session: VmSession,
        item: pytest.Item,
        asked_for: Mapping[str, Any],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        self.machines: list[Machine] = []
        self._session = session
        self._item = item
        self._asked_for = asked_for
        self._tmp_path_factory = tmp_path_factory
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
        name: str | None = None,
        timeout: float | None = None,
        cold: bool | None = None,
    ) -> Machine:
        """Start a machine and return it running.

        Args:
            memory: MiB.
            cpus: virtual processors.
            disks: sizes of empty ones, such as ``2G``, or images, which are never written to.
            image: what to boot: a path, or an Image.
            template: the name of a template of an image, which the program linuxkit builds.
            variables: the template's.
            name: what it is called in reports.
            timeout: seconds that it may take to boot.
            cold: boot it, though it could be cloned.

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
            "name": name,
            "timeout": timeout,
            "cold": cold,
        }
        chosen = {key: value for key, value in given.items() if value is not None}
        return self.add(self._session.start(**{**self._asked_for, **chosen}))

    def add(self, machine: Machine) -> Machine:
        """Take a machine that was started for the test: it is described and ended with it."""
        self.machines.append(machine)
        return machine

    def add_failure(self, report: pytest.TestReport) -> None:
        """Tell in the report of a failed test what its machines did."""
        self._failed = True
        for machine in self.machines:
            report.sections.append(describe.console(machine, self._copy_log(machine)))
            if machine.history:
                report.sections.append(describe.commands(machine))
            if self._is_kept(machine):
                report.sections.append(describe.kept(machine))

    def release(self) -> None:
        """The test is over: keep its machines if that is wanted, else end them."""
        while self.machines:
            machine = self.machines.pop()
            if self._is_kept(machine):
                self._session.keep(machine, self._item.nodeid)
            else:
                self._session.discard(machine)

    def _is_kept(self, machine: Machine) -> bool:
        keep = self._session.settings.keep
        wanted = keep == "always" or (keep == "failed" and self._failed)
        return wanted and machine.status is Status.RUNNING

    def _copy_log(self, machine: Machine) -> str:
        """Copy the console's log to where it stays; says where, or why not."""
        try:
            if self._logs is None:
                base = re.sub(r"\W", "_", self._item.name)[:30]
                self._logs = self._tmp_path_factory.mktemp(f"{base}-machines")
            target = self._logs / f"{machine.name}-console.log"
            shutil.copyfile(machine.directory / "console.log", target)
        except OSError as error:
            return f"it could not be copied: {error}"
        return f"all of it: {target}"
