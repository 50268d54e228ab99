"""The inputs of a build of the default guest image, and their digest."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from core_infra._binaries import agent_binary

_CODE = Path(__file__).parent
_ROOTFS = _CODE / "rootfs"

PREFIX = "default-"
"""The names of all default images in the cache begin so."""


@dataclass(frozen=True)
class Recipe:
    """All inputs of the image, except the versions of packages that the host's apt has.

    Attributes:
        arch: the guest's architecture, as ``uname -m`` prints it.
        distributions: the ids of the host's distribution and of those that it is derived from.
        version: the host's version; empty if it has none, as Debian testing.
        agent: core-infra's agent, a static program.
        rootfs: the directory with the guest's configuration.
    """

    arch: str
    distributions: tuple[str, ...]
    version: str
    agent: bytes
    rootfs: Path = _ROOTFS

    @property
    def key(self) -> str:
        """A digest of the recipe, and of the code that follows it."""
        host = (*self.distributions, self.version)
        digest = hashlib.sha256(repr((self.arch, host)).encode())
        files = [path for path in self.rootfs.rglob("*") if path.is_file()]
        for path in sorted([*files, *_CODE.glob("*.py"), *_CODE.parent.glob("*.py")]):
            data = path.read_bytes()
            digest.update(f"{path.name}\0{len(data)}\0".encode() + data)
        digest.update(self.agent)
        return digest.hexdigest()[:16]

    @property
    def image_name(self) -> str:
        """The name of the image's directory in the cache."""
        return f"{PREFIX}{self.arch}-{self.key}"


def recipe_for(arch: str) -> Recipe:
    """The recipe on this host, by its ``/etc/os-release``.

    Raises:
        UnavailableError: there is no agent for *arch*.
    """
    try:
        facts = platform.freedesktop_os_release()
    except OSError:
        facts = {"ID": "unknown"}
    return Recipe(
        arch=arch,
        distributions=(facts["ID"], *facts.get("ID_LIKE", "").split()),
        version=facts.get("VERSION_ID", ""),
        agent=agent_binary(arch),
    )
