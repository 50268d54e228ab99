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
from core_infra.errors import CommandFailedError, UnavailableError
from core_infra.vm._cache import writable
from core_infra.vm._free_space import written
from core_infra.vm._images.cached import DEBIAN_PREFIX
from core_infra.vm._images.debian.apt import Apt, check_packages
from core_infra.vm._images.debian.sources import default_sources, sources_of
from core_infra.vm._images.debian.unpack import newest, unpack
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.disk.ext4 import write_ext4
from core_infra.vm._images.disk.machine import (
    FREE,
    SYSTEM,
    DiskMachine,
    digest_of_code,
    kept_image,
    kept_machine,
    make_machine,
)
from core_infra.vm._images.disk.tree import add_file, walk
from core_infra.vm._images.image import OWN_INIT
from core_infra.vm._images.oci.layers import merge_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm._guest.guest import Guest
    from core_infra.vm._images.debian.apt import Deb
    from core_infra.vm._images.debian.release import Release
    from core_infra.vm._images.disk.tree import Node
    from core_infra.vm._images.image import Image

    InMachine = Callable[[Image, Callable[[Guest], None]], None]
    """Boots an image, calls a function with the machine, and ends it."""

BASE = ("?essential", "apt", "dbus", "iproute2", "netbase", "procps")
SYSTEMD = ("systemd-sysv", "udev")
_CONFIGURE = Path(__file__).with_name("configure")
_LIMIT = 3600.0
_SHOWN = 25
_CODE = digest_of_code(_CONFIGURE, *Path(__file__).parent.glob("*.py"))
_AGENT_OWN = (b"/dev", b"/proc", b"/run", b"/sys", b"/tmp", b"/lost+found")


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
    machine = DiskMachine(
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
    found = kept_machine(machine, cache_dir)
    if found is None:
        builder = _Builder(machine, wanted, debs, in_machine, progress)
        found = make_machine(machine, builder.tree, cache_dir=cache_dir, progress=progress)
    known.keep(found)
    return replace(found, name=wanted.name)  # other names may make the same system


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


class _Builder:
    """Makes the tree of a system."""

    def __init__(
        self,
        machine: DiskMachine,
        wanted: Wanted,
        debs: Sequence[Deb],
        in_machine: InMachine,
        progress: Callable[[str], None],
    ) -> None:
        self._machine = machine
        self._wanted = wanted
        self._debs = debs
        self._in_machine = in_machine
        self._progress = progress

    def tree(self, work: Path) -> Node:
        """Unpack the packages, configure them in a machine, and return the tree."""
        architecture = SHORT_NAMES[self._wanted.arch]
        root = unpack(self._debs, architecture, work, self._progress)
        sources = default_sources(self._wanted.release, architecture)
        add_file(root, "etc/apt/sources.list.d/core-infra.sources", sources.encode())
        # Without it, mounts and the root's own check would wait for disks that are not there.
        add_file(root, "etc/fstab", b"")
        time = newest(root)
        disk, initrd = work / "unconfigured.raw", work / "initrd"
        write_ext4(disk, root, free=FREE)
        scripts = self._machine.scripts | {"configure": _CONFIGURE.read_bytes()}
        initrd.write_bytes(replace(self._machine, scripts=scripts).initrd())
        base = self._machine.base
        image = replace(base, initrd=initrd, disk=disk, name=self._wanted.name, memory=1024)
        self._progress(f"configuring {len(self._debs)} packages in a machine")
        self._in_machine(image, lambda guest: self._configure(guest, time, work))
        merge_changes(root, work / "changes.tar", latest=time)
        kept = set((work / "paths").read_bytes().split(b"\0"))
        _remove_others(root, {path.removeprefix(b".") for path in kept})
        # Else systemd would update each cache of /usr at the first boot: postinst scripts did that.
        for name in ("etc/.updated", "var/.updated"):
            add_file(root, name, b"", mtime=time)
        return root

    def _configure(self, guest: Guest, time: int, work: Path) -> None:
        result = guest.exec(["/run/core-infra/configure", str(time)], timeout=_LIMIT)
        if result.exit_code:
            lines = f"{result.stdout}\n{result.stderr}".strip().splitlines()
            failed = [line for line in lines if line.startswith("dpkg: error processing package")]
            what = failed[0].split()[4] if failed else "packages"
            raise CommandFailedError(
                f"cannot configure {what} in {self._wanted.name}",
                why="its maintainer script failed in the machine; the last lines are:\n"
                + "\n".join(lines[-_SHOWN:]),
                command=["dpkg", "--configure", "-a"],
                exit_code=result.exit_code,
            )
        for name, target in (("tar", "changes.tar"), ("paths", "paths")):
            guest.pull(f"/var/core-infra.{name}", work / target, timeout=_LIMIT)


def _remove_others(root: Node, kept: set[bytes]) -> None:
    """Remove what the configuration has removed. What is mounted in a machine is not listed."""
    removed: set[bytes] = set()
    for path, _ in list(walk(root)):
        parent, _, name = path.rpartition(b"/")
        if path and path not in kept and not path.startswith(_AGENT_OWN) and parent not in removed:
            removed.add(path)
            place = root
            for part in filter(None, parent.split(b"/")):
                place = place.entries[part]
            del place.entries[name]
        elif parent in removed:
            removed.add(path)
