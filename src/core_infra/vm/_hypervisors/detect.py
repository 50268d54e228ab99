"""Finds the hypervisors of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import NotFoundError, UnavailableError
from core_infra.vm._hypervisors.hyperkit import HyperkitHypervisor
from core_infra.vm._hypervisors.qemu import QemuHypervisor

if TYPE_CHECKING:
    from core_infra.vm._hypervisors.hypervisor import Hypervisor


def hypervisors() -> list[Hypervisor]:
    """All known hypervisors, the best one first."""
    return [QemuHypervisor(), HyperkitHypervisor()]


def detect_hypervisor() -> Hypervisor:
    """The best hypervisor that is installed.

    Raises:
        UnavailableError: there is none.
    """
    for found in hypervisors():
        if found.available():
            return found
    raise UnavailableError(
        "cannot run a machine: there is no hypervisor on PATH",
        why=f"looked for {', '.join(one.name for one in hypervisors())}",
        todo="Install QEMU: apt-get install qemu-system-x86, or brew install qemu",
    )


def get_hypervisor(name: str) -> Hypervisor:
    """The hypervisor of this name, installed or not.

    Raises:
        NotFoundError: there is none of this name; lists the known ones.
    """
    known = {one.name: one for one in hypervisors()}
    if name not in known:
        raise NotFoundError(f"there is no hypervisor {name!r}", why=f"known are {', '.join(known)}")
    return known[name]
