"""All that a LinuxKit image is made of, before it is made: the file, and its images."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._host import SHORT_NAMES
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._cache import cache_root
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.linuxkit.document import (
    beside,
    is_layout,
    located,
    read_linuxkit,
    shadowed,
)
from core_infra.vm._images.linuxkit.notations import PLATFORMS, platform
from core_infra.vm._images.linuxkit.own_init import own_init_key
from core_infra.vm._images.manifest import MANIFEST
from core_infra.vm._images.oci.sources import find_digests, find_oci

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.vm._images.image import Image
    from core_infra.vm._images.linuxkit.document import LinuxKitFile
    from core_infra.vm._images.linuxkit.lock import Lock
    from core_infra.vm._images.linuxkit.readers import Values
    from core_infra.vm._images.oci.manifest import OciImage

_HOME = "~/"


@dataclass
class Plan:
    """What an image is made of.

    Attributes:
        file: the LinuxKit file.
        arch: the machine's architecture, as ``uname -m`` prints it.
        bases: the directories that relative paths are looked for in.
        lock: the digests that the images must have; None takes what their tags name.
        images: the OCI image of each address, for *arch*.
        layouts: the images of each address of a volume that holds an OCI layout, by architecture.
        default: the default image, if its kernel or its programs are used.
        progress: is called with a line of text before anything slow.
    """

    file: LinuxKitFile
    arch: str
    bases: Sequence[Path]
    progress: Callable[[str], None]
    lock: Lock | None = None
    images: dict[str, OciImage] = field(default_factory=dict)
    layouts: dict[str, dict[str, OciImage]] = field(default_factory=dict)
    default: Image | None = None

    @property
    def has_own_init(self) -> bool:
        """Whether the root file system is that of our init, since the file names none."""
        return not self.file.init

    def find(self, address: str, arch: str) -> OciImage:
        """Return an image for an architecture, fetched unless it is on this host.

        Raises:
            NotFoundError: it does not exist, or the lock does not have it.
            InvalidError: it is malformed, or not that of the lock.
            UnavailableError: the registry cannot be reached.
        """
        place, digest = located(address, self.bases), ""
        if self.lock is not None:
            digest = self.lock.digest(address, arch)
            if place.startswith("oci:"):
                place = f"{place.partition('@')[0]}@{digest}"
        try:
            found = find_oci(place, arch, cache_dir=cache_root(), progress=self.progress)
        except CoreInfraError as error:
            if address not in str(error):
                error.what = f"{address}: {error.what}"
            raise
        if digest and found.digest != digest:
            raise InvalidError(
                f"{address} is not the image of the lock",
                why=f"{digest} is expected, and {found.digest} is there",
                todo="Write the lock again if the change is wanted: core-infra image lock FILE",
            )
        return found

    def find_layout(self, volume: Values) -> None:
        """Find the images of a volume that holds an OCI layout, for all its platforms.

        Raises:
            CoreInfraError: as :meth:`find` does.
        """
        address = volume["image"]
        wanted = {platform(name) for name in volume.get("platforms") or ()}
        found = self.layouts.setdefault(address, {})
        archs = [arch for arch, name in SHORT_NAMES.items() if f"linux/{name}" in wanted]
        for arch in archs or self._archs(address):
            if arch not in found:
                found[arch] = self.find(address, arch)
        if not found:
            raise NotFoundError(f"{address} has no version for {' or '.join(PLATFORMS)}")
        self.images.setdefault(address, next(iter(found.values())))

    def _archs(self, address: str) -> list[str]:
        """Return the architectures that there is an image for."""
        if self.lock is not None:
            return [arch for arch in SHORT_NAMES if self.lock.has(address, arch)]
        place = located(address, self.bases)
        known = find_digests(place, cache_dir=cache_root(), refresh=False, progress=self.progress)
        return [arch for arch in SHORT_NAMES if arch in known]

    def source(self, entry: Values) -> Path | None:
        """Return the host's file for an entry of ``files``; None if it is optional and not there.

        Raises:
            NotFoundError: it does not exist.
            InvalidError: it is not a file that can be read.
        """
        text = str(entry["source"])
        path = Path(text).expanduser() if text.startswith(_HOME) else beside(text, self.bases)
        try:
            with open(path, "rb", opener=_regular_file):
                return path
        except OSError as error:
            if entry.get("optional"):
                return None
            kind = NotFoundError if isinstance(error, FileNotFoundError) else InvalidError
            raise kind(
                f"cannot read {path}, the source of {entry['path']}",
                why=error.strerror or str(error),
            ) from error

    def identity(self) -> str:
        """Return a digest of all that decides what the image will be."""
        total = hashlib.sha256(f"{_code()}\0{self.arch}\0".encode())
        total.update(repr(self.file.metadata()).encode())
        for address, image in self.images.items():
            total.update(f"\0{address}\0{image.digest}".encode())
        for address, images in sorted(self.layouts.items()):
            digests = sorted((arch, image.digest) for arch, image in images.items())
            total.update(f"\0{address}\0{digests}".encode())
        if self.default is not None:
            directory = self.default.kernel.parent
            total.update(f"\0{directory.name}\0".encode())
            total.update((directory / MANIFEST).read_bytes())  # the packages' versions
        if self.has_own_init:
            total.update(f"\0{own_init_key(self.arch, self.progress)}".encode())
        for entry in self.file.files:
            if entry.get("source") and (path := self.source(entry)) is not None:
                with path.open("rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()


def make_plan(
    files: Sequence[tuple[str, bytes]],
    arch: str,
    *,
    bases: Sequence[Path] = (),
    lock: Lock | None = None,
    progress: Callable[[str], None],
) -> Plan:
    """Read a LinuxKit file, and fetch the images that it names.

    Args:
        files: the name that errors show, and the content of each file; several are merged.
        arch: the machine's architecture, as ``uname -m`` prints it.
        bases: the directories that relative paths are looked for in; by default the working one.
        lock: the digests that the images must have; None takes what their tags name.
        progress: is called with a line of text before anything slow.

    Raises:
        InvalidFileError: the file has mistakes; it has all of them.
        NotFoundError: there is no such image, none for *arch*, or the lock does not have it.
        UnavailableError: a registry cannot be reached.
    """
    plan = Plan(read_linuxkit(files), arch, bases or [Path.cwd()], progress, lock)
    for address in plan.file.unpacked_images():
        plan.images[address] = plan.find(address, arch)
    for volume in plan.file.volumes:
        if is_layout(volume):
            plan.find_layout(volume)
    if not plan.has_own_init:
        for path in shadowed(plan.file):
            progress(f"/{path} will be hidden: LinuxKit's init mounts a tmpfs above it")
    if plan.has_own_init or "image" not in plan.file.kernel:
        plan.default = default_image(arch, cache_dir=cache_root(), progress=progress)
    return plan


@cache
def _code() -> str:
    """Return a digest of the code that makes an image."""
    total = hashlib.sha256()
    here = Path(__file__).parent
    shared = (here.parent / name for name in ("oci/layers.py", "disk/tar_merge.py", "disk/tree.py"))
    for path in sorted([*here.glob("*.py"), *shared]):
        total.update(path.read_bytes())
    return total.hexdigest()


def _regular_file(path: str, flags: int) -> int:
    """Open a file; not a FIFO, which would wait for its writer."""
    found = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return found
