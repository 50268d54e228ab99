"""The platform that this runs on, in the words of targets."""

from __future__ import annotations

import platform

from core_infra.build.artifact import Target

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}


def host_target() -> Target:
    """The target whose programs run here without further ado."""
    machine = platform.machine().lower()
    return Target(platform.system().lower(), _ARCHITECTURES.get(machine, machine))
