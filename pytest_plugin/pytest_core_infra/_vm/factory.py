"""Starts machines for tests: the value of the fixtures ``core_vm_factory…``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine import Machine
    from core_infra.vm._networks import Network, NetworkAddress


class MachineFactory:
    """Starts machines for one test, or for the tests of a class, a module or the session.

    The value of the fixture ``core_vm_factory`` and of those for other scopes.

    Args:
        start: starts a machine with those arguments that are not None.
    """

    def __init__(self, start: Callable[..., Machine]) -> None:
        self._start = start

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
        entrypoint: bool | None = None,
        init: str | None = None,
        packages: Sequence[str] | None = None,
        suite: str | None = None,
        networks: Sequence[Network | NetworkAddress] | None = None,
        network: str | None = None,
        time: str | None = None,
        name: str | None = None,
        timeout: float | None = None,
        cold: bool | None = None,
        revert: bool | None = None,
    ) -> Machine:
        """Start a machine and return it running.

        Args:
            memory: MiB.
            cpus: virtual processors.
            disks: sizes of empty disks, such as ``2G``, or images, which are never changed.
            image: the image to boot, its path, or its address, such as ``debian:12``.
            template: the name of a template of an image, which the program linuxkit builds.
            variables: the template's.
            cpu: the processor, as QEMU's ``-cpu`` takes it.
            arch: the architecture, ``x86_64`` or ``aarch64``.
            kernel: a kernel to boot instead of the image's.
            initrd: an initrd instead of the image's.
            cmdline: added to the end of the kernel's command line.
            entrypoint: start the program that an OCI image is for, its ENTRYPOINT and CMD.
            init: the first process of an image whose root is a disk: ``systemd``, ``busybox``, or
                the path of a program in it.
            packages: Debian or Ubuntu packages that the machine has, such as ``postgresql``.
            suite: the release that has them, such as ``trixie``; default: this host's.
            networks: the networks that it has a card on, made by ``core_network``; ``net.at("…")``
                instead of ``net`` gives it that address.
            time: ``virtual``: clocks that do not wait while the guest is idle.
            network: ``nat`` to reach what this host reaches; ``hermetic`` to reach nothing.
            name: its name in reports, and on networks.
            timeout: seconds that it may take to boot.
            cold: boot it instead of cloning it.
            revert: revert it after each test that uses it; only for machines that tests share.

        Raises:
            InvalidError: a value is invalid.
            NotFoundError: the image does not exist.
            BootError: it did not boot; has the last lines of the console and the command.
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
            "entrypoint": entrypoint,
            "init": init,
            "packages": packages,
            "suite": suite,
            "networks": networks,
            "network": network,
            "time": time,
            "name": name,
            "timeout": timeout,
            "cold": cold,
            "revert": revert,
        }
        return self._start(**{key: value for key, value in given.items() if value is not None})
