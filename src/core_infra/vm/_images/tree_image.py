"""Makes an image of a directory that holds the files of a system, such as debootstrap's."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._images.cached import TREE_PREFIX
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.disk.host_files import read_host_files
from core_infra.vm._images.disk.image import SYSTEM, DiskRecipe, make_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm._images.image import Image

_SYSTEM_HAS = ("usr", "bin", "etc")
_DENIED = os.strerror(errno.EACCES)


def is_tree(directory: Path) -> bool:
    """Whether a directory holds the files of a system."""
    return all((directory / name).is_dir() for name in _SYSTEM_HAS)


def tree_image(
    directory: Path, arch: str, *, cache_dir: Path, progress: Callable[[str], None]
) -> Image:
    """Return the image of a directory, made if the directory has changed since the last one.

    Args:
        directory: the directory.
        arch: the architecture of its programs, as ``uname -m`` prints it.
        cache_dir: the directory whose ``images`` holds what is made.
        progress: called with a line of text before anything slow.

    Raises:
        InvalidError: a file cannot be read.
        UnavailableError: there is no room for it.
    """
    base = default_image(arch, cache_dir=cache_dir, progress=progress)
    files = read_host_files(directory)
    unreadable = [path for path, why in files.left_out.items() if why == _DENIED]
    if unreadable:
        raise InvalidError(
            f"cannot read all of {directory}",
            why=f"{_DENIED}: {unreadable[0]}" + (", …" if unreadable[1:] else ""),
            todo="Read it as its owner, or make an archive of it: oci-archive:FILE.",
        )
    recipe = DiskRecipe(directory.name, base, kind=TREE_PREFIX, key=files.digest, run=SYSTEM)
    return make_image(recipe, lambda _: files.root, cache_dir=cache_dir, progress=progress)
