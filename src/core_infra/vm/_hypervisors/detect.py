"""Which hypervisor there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import NotFoundError, UnavailableError
from core_infra.vm._hypervisors.hyperkit import HyperkitHypervisor
from core_infra.vm._hypervisors.qemu_persistent import PersistentQemu

if TYPE_CHECKING:
    from core_infra.vm._hypervisors.hypervisor import HostedHypervisor


def hypervisors() -> list[HostedHypervisor]:
    """All that are known here, the best one first."""
    return [PersistentQemu(), HyperkitHypervisor()]


def detect_hypervisor() -> HostedHypervisor:
    """The best one that is installed.

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


def get_hypervisor(name: str) -> HostedHypervisor:
    """The one of this name, installed or not.

    Raises:
        NotFoundError: there is none of this name; tells those that there are.
    """
    known = {one.name: one for one in hypervisors()}
    if name not in known:
        raise NotFoundError(f"there is no hypervisor {name!r}", why=f"known are {', '.join(known)}")
    return known[name]
