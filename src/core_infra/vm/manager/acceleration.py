"""Which accelerator a machine of the manager gets."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError
from core_infra.vm.hypervisors.accelerator import foreign
from core_infra.vm.images.format import host_arch
from core_infra.vm.launcher import Launcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm.hypervisors.hosted import HostedHypervisor


def accelerator(
    hypervisor: HostedHypervisor, requested: str, arch: str, tell: Callable[[str], None]
) -> str:
    """The accelerator that works here for machines of *arch*.

    :mod:`~core_infra.vm.hypervisors.accelerator` finds out.

    Raises:
        InvalidError: there is none of this name.
        UnavailableError: the one asked for does not work here.
    """
    if not hypervisor.has_monitor:
        return ""  # it has one of its own
    if arch != host_arch():
        return foreign(requested, arch).name
    if requested == "auto" and sys.platform == "darwin":
        return "hvf" if platform.machine() in ("x86_64", "arm64") else "tcg"
    with Launcher(accelerator=requested, progress=tell) as launcher:
        try:
            return launcher.accelerator.name
        except CoreInfraError as error:
            # It is the default image that cannot be built: the user's own needs no such proof.
            if requested != "auto":
                raise
            tell(f"machines are emulated: {error}")
            return "tcg"
