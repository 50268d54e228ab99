"""The images in the cache directory: listing them, and removing old ones."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock

from core_infra.errors import CoreInfraError
from core_infra.vm._images.default.recipe import PREFIX, recipe_for
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.kernel_set import built_image
from core_infra.vm._images.manifest import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path


OCI_PREFIX = "oci-"
"""The names of images made of OCI images begin so."""

DEBIAN_PREFIX = "debian-"
"""The names of images made of Debian or Ubuntu packages begin so."""

HOST_PREFIX = "host-"
"""The names of images made of this host's own files begin so."""

TREE_PREFIX = "tree-"
"""The names of images made of directories begin so."""

KERNEL_AND_INITRD = "kernel+initrd"
"""The kind of an image whose files are all in its initrd."""

_KINDS = {
    PREFIX: KERNEL_AND_INITRD,
    OCI_PREFIX: "oci",
    DEBIAN_PREFIX: "packages",
    HOST_PREFIX: "host",
    TREE_PREFIX: "directory",
}


class StoredImage(NamedTuple):
    """An image that core-infra has built.

    Attributes:
        path: its directory.
        name: its name, for display.
        built: time when it was built, in seconds since the epoch.
        used: time of last use.
        size: bytes on the disk.
    """

    path: Path
    name: str
    built: float
    used: float
    size: int

    @property
    def kind(self) -> str:
        """What it was made of."""
        return next(kind for prefix, kind in _KINDS.items() if self.path.name.startswith(prefix))

    @property
    def has_disk(self) -> bool:
        """Whether its files are on a disk."""
        return self.kind != KERNEL_AND_INITRD


def stored_images(cache: Path) -> list[StoredImage]:
    """All images in a cache directory, the last used one first."""
    found = []
    images = cache / "images"
    for path in (path for prefix in _KINDS for path in images.glob(f"{prefix}*")):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            used = path.stat().st_mtime
            files = {file.name: file.stat() for file in path.iterdir()}
            size = sum(status.st_blocks * 512 for status in files.values())
            built = files[MANIFEST].st_mtime if MANIFEST in files else used
            found.append(StoredImage(path, _name(path), built, used, size))
    return sorted(found, key=lambda one: -one.used)


def prune_images(cache: Path, *, before: float) -> list[StoredImage]:
    """Remove the images that have not been used since a time, except the current one.

    Args:
        cache: the cache directory.
        before: the time, in seconds since the epoch.

    Returns:
        The removed images.
    """
    removed = []
    if not (cache / "images").is_dir():
        return []
    current = _current()
    with FileLock(cache / "images" / ".lock"):  # so that no process builds one meanwhile
        for one in stored_images(cache):
            if one.used < before and one.path.name != current:
                shutil.rmtree(one.path, ignore_errors=True)
                removed.append(one)
    for blob in (cache / "oci" / "blobs").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            if blob.stat().st_mtime < before:
                blob.unlink()  # it is fetched again if it is needed
    return removed


def _name(path: Path) -> str:
    try:
        return built_image(path).name
    except CoreInfraError as error:
        return f"damaged: {error.why}"


def _current() -> str:
    with contextlib.suppress(CoreInfraError):
        return recipe_for(host_arch()).image_name
    return ""
