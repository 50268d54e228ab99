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

if TYPE_CHECKING:
    from pathlib import Path


OCI_PREFIX = "oci-"


class StoredImage(NamedTuple):
    """An image that core-infra has built.

    Attributes:
        path: its directory.
        name: its name, for display.
        used: time of last use, in seconds since the epoch.
        size: bytes on the disk.
    """

    path: Path
    name: str
    used: float
    size: int

    @property
    def is_oci(self) -> bool:
        """Whether it was made from an OCI image."""
        return self.path.name.startswith(OCI_PREFIX)


def stored_images(cache: Path) -> list[StoredImage]:
    """All images in a cache directory, the last used one first."""
    found = []
    images = cache / "images"
    for path in (*images.glob(f"{PREFIX}*"), *images.glob(f"{OCI_PREFIX}*")):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            size = sum(file.stat().st_blocks * 512 for file in path.iterdir())
            found.append(StoredImage(path, _name(path), path.stat().st_mtime, size))
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
