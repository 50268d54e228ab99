"""Makes an image of Debian or Ubuntu packages: a system whose services run under systemd.

The packages are unpacked into a tree without root, and configured in a machine that boots it: a
maintainer script never runs on this host. What it changed there goes back into the tree, and the
tree becomes the image's disk. It is kept in the cache by the digests of its packages, and found
there by what was asked for, so a later run asks neither apt nor the network.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._host import SHORT_NAMES
from core_infra.errors import UnavailableError
from core_infra.vm._cache import writable
from core_infra.vm._free_space import written
from core_infra.vm._images.cached import DEBIAN_PREFIX
from core_infra.vm._images.debian.apt import Apt, check_packages
from core_infra.vm._images.debian.configuration import CONFIGURE, Configuration
from core_infra.vm._images.debian.sources import default_sources, sources_of
from core_infra.vm._images.debian.unpack import unpack
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.disk.image import (
    SYSTEM,
    DiskRecipe,
    digest_of_code,
    find_image,
    kept_image,
    make_image,
)
from core_infra.vm._images.disk.tree import add_file
from core_infra.vm._images.image import OWN_INIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm._images.debian.apt import Deb
    from core_infra.vm._images.debian.configuration import InMachine
    from core_infra.vm._images.debian.release import Release
    from core_infra.vm._images.disk.tree import Node
    from core_infra.vm._images.image import Image

BASE = ("?essential", "apt", "dbus", "iproute2", "netbase", "procps")
SYSTEMD = ("systemd-sysv", "udev")
_CODE = digest_of_code(CONFIGURE, *Path(__file__).parent.glob("*.py"))


@dataclass(frozen=True)
class Wanted:
    """The system that is asked for.

    Attributes:
        release: its release.
        packages: names of packages besides those of every system.
        arch: its architecture, as ``uname -m`` prints it.
    """

    release: Release
    packages: tuple[str, ...]
    arch: str

    @property
    def name(self) -> str:
        """The name that messages show."""
        more = f" with {', '.join(self.packages)}" if self.packages else ""
        return f"{self.release}{more}"


def debian_image(
    wanted: Wanted,
    *,
    cache_dir: Path,
    in_machine: InMachine | None,
    refresh: bool,
    progress: Callable[[str], None],
) -> Image:
    """Return the image of a system made of packages, made if it is not in the cache.

    Args:
        wanted: the system.
        cache_dir: the directory whose ``images`` holds what is made.
        in_machine: boots an image, and calls a function with the machine; None: an image that is
            not in the cache cannot be made.
        refresh: ask apt for the newest versions, even if there is an image.
        progress: called with a line of text before anything slow.

    Raises:
        NotFoundError: a package is not known.
        InvalidError: the packages do not fit together.
        CommandFailedError: a maintainer script failed; shows its output.
        UnavailableError: there is no apt, no network, no key or no room.
    """
    check_packages(wanted.packages)
    base = default_image(wanted.arch, cache_dir=cache_dir, progress=progress)
    known = _Known(cache_dir, wanted, base)
    if not refresh and (found := known.image()) is not None:
        return found
    if in_machine is None:
        raise UnavailableError(
            f"the image {wanted.name} has not been made on this host",
            why="a machine configures its packages",
            todo=f"Make it by Launcher().make_image('{wanted.release}').",
        )
    architecture = SHORT_NAMES[wanted.arch]
    directory = writable(cache_dir / "debian")
    with written(f"packages of {wanted.release}", directory):
        sources = sources_of(wanted.release, architecture)
        apt = Apt(wanted.release, sources, architecture, directory / wanted.arch, progress)
        debs = apt.fetch((*BASE, *SYSTEMD), wanted.packages)
    recipe = DiskRecipe(
        wanted.name,
        base,
        kind=DEBIAN_PREFIX,
        key=json.dumps([str(wanted.release), sorted(deb.sha256 for deb in debs), _CODE]),
        run=SYSTEM,
        cmdline=f"{OWN_INIT}systemd",
        packages=tuple(
            {"name": deb.name, "version": deb.version, "sha256": deb.sha256} for deb in debs
        ),
    )
    found = find_image(recipe, cache_dir)
    if found is None:
        configuration = Configuration(recipe, in_machine, progress)

        def tree(work: Path) -> Node:
            root = _unpacked(wanted.release, debs, architecture, work, progress)
            configuration.apply(root, work)
            return root

        found = make_image(recipe, tree, cache_dir=cache_dir, progress=progress)
    known.keep(found)
    return replace(found, name=wanted.name)  # other names may make the same system


def _unpacked(
    release: Release,
    debs: Sequence[Deb],
    architecture: str,
    work: Path,
    progress: Callable[[str], None],
) -> Node:
    """Return the tree of a system whose packages are unpacked, with what no package has."""
    root = unpack(debs, architecture, work, progress)
    sources = default_sources(release, architecture)
    add_file(root, "etc/apt/sources.list.d/core-infra.sources", sources.encode())
    # Without it, mounts and the root's own check would wait for disks that are not there.
    add_file(root, "etc/fstab", b"")
    return root


class _Known:
    """Which image was made for what was asked for: a file in the cache."""

    def __init__(self, cache_dir: Path, wanted: Wanted, base: Image) -> None:
        facts = [str(wanted.release), wanted.packages, wanted.arch, base.kernel.parent.name, _CODE]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
        self._images = writable(cache_dir / "images")
        self._path = writable(cache_dir / "debian") / f"{digest}.json"
        self._name = wanted.name

    def image(self) -> Image | None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            name = Path(json.loads(self._path.read_text())["image"]).name
            if (found := kept_image(self._images / name)) is not None:
                return replace(found, name=self._name)
        return None

    def keep(self, image: Image) -> None:
        with written("a record of an image", self._path.parent):
            part = self._path.with_suffix(".tmp")
            part.write_text(json.dumps({"image": image.kernel.parent.name, "of": self._name}))
            part.replace(self._path)
