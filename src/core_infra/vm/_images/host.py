"""Makes an image of this host's own programs: ``image="host"``.

What is installed here can be tried there at once, and nothing of the host is changed. The image is
a copy on a disk, and not a share: a share belongs to one process, so it cannot be forked with a
machine, and would change under the machines' feet when a package of the host is upgraded.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import InvalidError
from core_infra.vm._images.addresses import HOST
from core_infra.vm._images.cached import HOST_PREFIX
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.disk.host_files import HostFiles, read_host_files
from core_infra.vm._images.disk.image import (
    SYSTEM,
    DiskRecipe,
    digest_of_code,
    find_image,
    make_image,
)
from core_infra.vm._images.disk.tree import add_file, directory
from core_infra.vm._images.host_secrets import why_private
from core_infra.vm._images.image import host_arch

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._images.disk.tree import Node
    from core_infra.vm._images.image import Image

LEFT_OUT = "left-out.txt"
"""The file of an image that lists what of the host is not in it."""

# What an installed system consists of.
_PLACES = (
    *(b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libx32", b"usr", b"etc", b"opt"),
    *(b"var/lib/dpkg", b"var/lib/pam", b"var/lib/ucf"),
)
_EMPTY = {
    **dict.fromkeys((b"boot", b"home", b"media", b"mnt", b"srv", b"var/backups"), 0o755),
    **dict.fromkeys((b"var/cache", b"var/local", b"var/log", b"var/opt", b"var/spool"), 0o755),
    **dict.fromkeys((b"tmp", b"var/tmp"), 0o1777),
    b"root": 0o700,
}
# The kernel of the machine is not the host's, so its modules are of no use there.
_USELESS = (b"usr/lib/modules", b"lib/modules", b"usr/lib/debug", b"usr/src")
_DEEPEST = max(path.count(b"/") for path in (*_PLACES, *_USELESS))
_CODE = digest_of_code(Path(__file__), Path(__file__).with_name("host_secrets.py"))


def host_image(arch: str, *, cache_dir: Path, progress: Callable[[str], None]) -> Image:
    """Return the image of this host's own files, made if they have changed since the last one.

    Args:
        arch: the architecture of the machine.
        cache_dir: the directory whose ``images`` holds what is made.
        progress: called with a line of text before anything slow.

    Raises:
        InvalidError: the architecture is not the host's.
        UnavailableError: there is no room for it.
    """
    if arch != host_arch():
        raise InvalidError(
            f"the image {HOST} cannot be for {arch}", why=f"this host's programs are {host_arch()}"
        )
    base = default_image(arch, cache_dir=cache_dir, progress=progress)
    began = time.monotonic()
    files = read_host_files(Path("/"), public=True, skip=_why_not, mounted=_PLACES)
    listed = "".join(f"/{path}\t{why}\n" for path, why in sorted(files.left_out.items()))
    recipe = DiskRecipe(
        HOST,
        base,
        kind=HOST_PREFIX,
        key=f"{files.digest} {_CODE}",
        run=SYSTEM,
        files={LEFT_OUT: os.fsencode(listed)},
        kept=1,  # it is large, and what has changed on a host does not change back
    )
    if (known := find_image(recipe, cache_dir)) is not None:
        return known
    progress(f"copying {files.read >> 20} MiB of this host's files")
    made = make_image(recipe, lambda _: _system(files), cache_dir=cache_dir, progress=progress)
    progress(
        f"copied this host's files in {time.monotonic() - began:.1f} s; "
        f"{len(files.left_out)} paths are left out: {made.kernel.parent / LEFT_OUT}"
    )
    return made


def _why_not(path: bytes) -> str:
    """Return why a path of this host is left out; empty if it is not."""
    if why := why_private(path):
        return why
    if path.count(b"/") > _DEEPEST:
        return ""
    if any(_is_below(path, place) for place in _PLACES):
        if any(_is_below(path, place) for place in _USELESS):
            return "it is of no use with another kernel"
        return ""
    above = any(_is_below(place, path) for place in _PLACES)
    return "" if above else "it is not a part of the installed system"


def _is_below(path: bytes, place: bytes) -> bool:
    return path == place or path.startswith(place + b"/")


def _system(files: HostFiles) -> Node:
    """Return the tree with what a system needs besides, and without the host's passwords."""
    root = files.root
    for path, permissions in _EMPTY.items():
        node = root
        for part in path.split(b"/"):
            node = node.entries.setdefault(part, directory())
        node.mode = directory(permissions).mode
    with suppress(OSError):
        users = Path("/etc/passwd").read_bytes().splitlines()
        lines = (line.partition(b":")[0] + b":*:19000:0:99999:7:::\n" for line in users)
        add_file(root, "etc/shadow", b"".join(lines), 0o640)
    return root
