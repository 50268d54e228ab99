"""Starts, keeps and ends the machines of this process."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.vm._capsule.moments import Moments
from core_infra.vm._hardware import NAT
from core_infra.vm._launcher import Launcher
from pytest_core_infra._vm.reporting import RunSummary

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from core_infra.vm._cluster import Cluster
    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_state import Ending
    from core_infra.vm._networks import Network
    from pytest_core_infra._vm.settings import Settings


class Machines:
    """The machines of this process: one launcher, by the settings of the run.

    Args:
        settings: the settings of the run.
        processes: how many processes of the run start machines.
        progress: shows a line to the user.
        ending: returns who ends a machine now, for its errors; None if that is unknown.
        terminal: within its block, this process's terminal can be used.

    Attributes:
        settings: the same.
        summary: what was started and kept.
        moments: the machines of the test as they stood before its last commands.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        processes: int,
        progress: Callable[[str], None],
        ending: Callable[[Machine], Ending | None],
        terminal: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.settings = settings
        self.summary = RunSummary()
        self._processes = processes
        self._progress = progress
        self._ending = ending
        self._terminal = terminal
        self._launcher: Launcher | None = None
        self.moments = Moments(
            0 if settings.trace == "off" else settings.trace_steps, lambda: self.launcher
        )

    @property
    def launcher(self) -> Launcher:
        """The launcher of this process, made at first use."""
        if self._launcher is None:
            self._launcher = Launcher(
                accelerator=self.settings.accelerator,
                image=self.settings.image,
                memory=self.settings.memory,
                cpus=self.settings.cpus,
                cpu=self.settings.cpu,
                arch=self.settings.arch,
                network=self.settings.network,
                outlive=self.settings.keep != "never",
                processes=self._processes,
                warm=self.settings.warm,
                progress=self._progress,
                witness=self._ending,
                terminal=self._terminal,
            )
        return self._launcher

    def start(
        self,
        *,
        image: str | os.PathLike[str] | Bootable | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        cold: bool | None = None,
        **options: Any,
    ) -> Machine:
        """Start a machine.

        Args:
            image: the image, or its path.
            template: the name of a template of an image.
            variables: the template's.
            cold: boot it instead of cloning one; None for the setting.
            options: more arguments of ``Launcher.boot`` and ``Launcher.clone``.
        """
        is_cold = self.settings.cold if cold is None else cold
        start = self.launcher.boot if is_cold else self.launcher.clone
        return self._counted(lambda: start(self._image(image, template, variables), **options))

    def prepare(
        self,
        prepare: Callable[[Machine], object],
        *,
        on_failure: Callable[[Machine, BaseException], None],
        image: str | os.PathLike[str] | Bootable | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Callable[[str | None], Machine]:
        """Prepare a machine; return a function that starts a clone of it, with a name.

        Args:
            prepare: called with a fresh machine.
            on_failure: called with the machine and the error if that fails.
            image: the image, or its path.
            template: the name of a template of an image.
            variables: the template's.
            options: more arguments of ``Launcher.prepare``.
        """
        self.summary.requested += 1
        found = self._image(image, template, variables)
        prepared = self.launcher.prepare(prepare, image=found, on_failure=on_failure, **options)
        return lambda name: self._counted(lambda: prepared.clone(name))

    def prepare_cluster(
        self,
        prepare: Callable[[Cluster], object],
        *,
        on_failure: Callable[[Cluster, BaseException], None],
    ) -> Callable[[str | None], Cluster]:
        """Prepare a cluster; return a function that makes a copy of it, with a name.

        Args:
            prepare: called with an empty cluster.
            on_failure: called with the cluster and the error if that fails.
        """
        prepared = self.launcher.prepare_cluster(prepare, on_failure=on_failure)

        def copy(name: str | None) -> Cluster:
            cluster = prepared.copy(name)
            self.summary.requested += len(cluster)
            self.summary.boots += [machine.boot_seconds for machine in cluster]
            return cluster

        return copy

    def save_for_clones(
        self,
        *,
        image: str | os.PathLike[str] | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        cold: bool | None = None,
        timeout: float | None = None,  # noqa: ARG002 - for machines that a test itself boots
        **options: Any,
    ) -> None:
        """Boot and save what :meth:`start` clones, if such machines are cloned."""
        if self.settings.cold if cold is None else cold:
            return
        with contextlib.suppress(CoreInfraError):  # raised again in the tests that ask for it
            self.launcher.save_for_clones(self._image(image, template, variables), **options)

    def network(self, subnet: str | None, *, name: str | None, outside: bool, seed: int) -> Network:
        """Make a network."""
        return self.launcher.network(subnet, name=name, outside=outside, seed=seed)

    def keep(self, machine: Machine, owner: str) -> None:
        """Leave a machine running when this process ends."""
        self.launcher.keep(machine, owner)
        self.summary.kept.append((owner, machine.name, machine.pid))

    def discard(self, machine: Machine, ending: Ending) -> None:
        """Stop a machine and remove its files."""
        self.launcher.discard(machine, ending)

    def close(self) -> None:
        """Stop all machines that are not kept."""
        if self._launcher is not None:
            self._launcher.close()

    def _image(
        self,
        image: str | os.PathLike[str] | Bootable | None,
        template: str | None,
        variables: Mapping[str, str] | None,
    ) -> str | os.PathLike[str] | Bootable | None:
        """The requested image, its path, or the image of a template; None for the setting."""
        if template is None:
            return image
        if image is not None:
            raise InvalidError(f"a machine boots either image={image} or template={template!r}")
        from core_infra.vm._images.linuxkit.image_cache import template_image  # noqa: PLC0415 - if used

        return template_image(template, variables or {}, progress=self._progress)

    def _counted(self, start: Callable[[], Machine]) -> Machine:
        self.summary.requested += 1
        machine = start()
        self.summary.boots.append(machine.boot_seconds)
        self.summary.open += machine.spec.network == NAT
        return machine
