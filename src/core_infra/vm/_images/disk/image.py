"""Makes an image of a tree of files: the tree on a disk, and the default image's kernel.

The kernel's first file system holds our programs and the agent (``_guest/disk_root``), so nothing
is added to the tree, and a tree needs neither a kernel nor an init.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from core_infra._unpatched import time
from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._cache import locked, writable
from core_infra.vm._free_space import written
from core_infra.vm._guest.run_config import RunConfig
from core_infra.vm._images.disk.ext4 import write_ext4
from core_infra.vm._images.disk.tree import directory
from core_infra.vm._images.initrd import cpio, file
from core_infra.vm._images.kernel_set import built_image
from core_infra.vm._images.manifest import DISK, INITRD, KERNEL, write_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._images.disk.tree import Node
    from core_infra.vm._images.image import Image

FREE = 4 << 30
"""Bytes that a machine can write to its root, at least."""

MEMORY = 512
"""The default MiB of a machine whose root is a disk."""

SYSTEM = RunConfig(
    env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
    workdir="/",  # a directory that every user may enter
)
"""How the programs of an installed system are run."""

_SCRIPTS = Path(__file__).parents[2] / "_guest" / "disk_root"
_UNFINISHED = ".making-"
_DAY = 24 * 3600


@dataclass(frozen=True)
class DiskRecipe:
    """What an image with a root disk is made of, besides the tree.

    Attributes:
        name: the name that messages show.
        base: the default image for its architecture: its kernel, initrd and command line.
        kind: what the name of its directory begins with.
        key: a digest of all that its disk is made of.
        run: how its programs are run.
        cmdline: added to the kernel's command line.
        scripts: files by name that the initrd puts into ``/run/core-infra`` besides our own.
        packages: name, version and sha256 of each package in it.
        files: further files of its directory in the cache, by name.
        kept: days without use after which an image of its kind is removed, when one is made.
    """

    name: str
    base: Image
    kind: str
    key: str
    run: RunConfig = field(default_factory=RunConfig)
    cmdline: str = ""
    scripts: dict[str, bytes] = field(default_factory=dict)
    packages: tuple[dict[str, str], ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    kept: int = 30

    @property
    def arch(self) -> str:
        """Its architecture, as ``uname -m`` prints it."""
        return self.base.arch

    @property
    def directory(self) -> str:
        """The name of its directory in the cache."""
        scripts = repr([self.base.kernel.parent.name, self.cmdline, _own_scripts(), self.scripts])
        digest = hashlib.sha256(f"{self.key} {scripts} {FREE} {_CODE}".encode()).hexdigest()
        return f"{self.kind}{self.arch}-{digest[:24]}"

    def initrd(self) -> bytes:
        """The kernel's first file system: the default image's, and what mounts the disk."""
        assert self.base.initrd is not None  # noqa: S101 - the default image has one
        data = self.base.initrd.read_bytes()
        entries = []
        for name, content in (_own_scripts() | self.scripts).items():
            text = content.replace(b"@CONSOLE@", self.base.console.encode())
            permissions = 0o755 if content.startswith(b"#!") else 0o644
            path = "init" if name == "init" else f"disk_root/{name}"
            entries.append(file(path, text, permissions))
        return data + bytes(-len(data) % 4) + cpio(entries)


def digest_of_code(*files: Path) -> str:
    """A digest of files of our code: another code may make another image."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.read_bytes())
    return total.hexdigest()


def find_image(recipe: DiskRecipe, cache_dir: Path) -> Image | None:
    """The image of a recipe if it is in the cache; None if it must be made."""
    return kept_image(writable(cache_dir / "images") / recipe.directory)


def kept_image(target: Path) -> Image | None:
    """The image in a directory, which counts as used now; None if there is none."""
    with suppress(NotFoundError, InvalidError):
        found: Image = built_image(target)
        with suppress(OSError):
            os.utime(target)
        return found
    return None


def make_image(
    recipe: DiskRecipe,
    tree: Callable[[Path], Node],
    *,
    cache_dir: Path,
    progress: Callable[[str], None],
) -> Image:
    """Return the image of a tree, made if it is not in the cache. Several processes make it once.

    Args:
        recipe: what it is made of.
        tree: returns the tree; called with an empty directory, which is removed afterwards.
        cache_dir: the directory whose ``images`` holds what is made.
        progress: called with a line of text before anything slow.

    Raises:
        InvalidError: the tree holds what a disk cannot.
        UnavailableError: there is no room for it.
    """
    images = writable(cache_dir / "images")
    target = images / recipe.directory
    if (found := kept_image(target)) is not None:
        return found
    with (
        written(f"the disk of {recipe.name}", images),
        locked(_lock_file(target), "makes the same image", progress),
    ):
        if (found := kept_image(target)) is not None:
            return found  # another process has just made it
        work = images / f"{_UNFINISHED}{target.name}"
        for left in (target, work, *_unused(images, recipe)):  # damaged, killed, old
            shutil.rmtree(left, ignore_errors=True)
        _remove_unfinished(images)
        work.mkdir()
        try:
            made = work / "image"
            made.mkdir()
            content = tree(work)
            add_places(content)
            progress(f"writing the disk of {recipe.name}")
            write_ext4(made / DISK, content, free=FREE)
            _add_kernel(recipe, made)
            made.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return built_image(target)


def add_places(tree: Node) -> None:
    """Add the directories of a tree that a machine mounts on, if they are missing."""
    for name in (b"dev", b"etc", b"proc", b"run", b"sys"):
        if not (name in tree.entries and tree.entries[name].is_dir):
            tree.entries[name] = directory()
    tree.entries.setdefault(b"tmp", directory(0o1777))


def _add_kernel(recipe: DiskRecipe, made: Path) -> None:
    base = recipe.base
    try:
        (made / KERNEL).hardlink_to(base.kernel)
    except OSError:  # a file system without hard links, or another one
        shutil.copyfile(base.kernel, made / KERNEL)
    (made / INITRD).write_bytes(recipe.initrd())
    for name, data in recipe.files.items():
        (made / name).write_bytes(data)
    write_manifest(
        made,
        image={
            "cmdline": f"{base.cmdline} {recipe.cmdline}".rstrip(),
            "arch": base.arch,
            "name": recipe.name,
            "has_agent": True,
            "console": base.console,
            "memory": MEMORY,
            "run": asdict(recipe.run),
        },
        packages=list(recipe.packages),
    )


def _unused(images: Path, recipe: DiskRecipe) -> list[Path]:
    """Return the images of a recipe's kind that have not been used for long."""
    before, found = time.time() - recipe.kept * _DAY, []
    for path in images.glob(f"{recipe.kind}*"):
        with suppress(FileNotFoundError):  # another process has just removed it
            if path.stat().st_mtime < before:
                found.append(path)
    return found


def _remove_unfinished(images: Path) -> None:
    """Remove what processes that were killed have left of any image."""
    for path in images.glob(f"{_UNFINISHED}*"):
        lock = FileLock(_lock_file(images / path.name.removeprefix(_UNFINISHED)))
        with suppress(Timeout), lock.acquire(timeout=0):  # else a process makes it just now
            shutil.rmtree(path, ignore_errors=True)


def _lock_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _own_scripts() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(_SCRIPTS.iterdir())}


_CODE = digest_of_code(*Path(__file__).parent.glob("*.py"))
