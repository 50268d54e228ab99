"""Images that the user has built, and named: they are kept until the user removes them."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock

from core_infra.errors import AlreadyExistsError, CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._free_space import written
from core_infra.vm._images.disk.copying import copy_file
from core_infra.vm._images.image import Image
from core_infra.vm._images.kernel_set import built_image
from core_infra.vm._images.manifest import DISK, INITRD, KERNEL, MANIFEST
from core_infra.vm._state_directory import state_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.vm._images.image import Bootable

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_TAKEN = ("default", "debian", "ubuntu", "host")
_UNFINISHED = ".making-"
_FILES = (KERNEL, INITRD, DISK)


class NamedImage(NamedTuple):
    """An image that has a name.

    Attributes:
        name: its name.
        path: its directory.
        image: the image.
        size: bytes on the disk.
    """

    name: str
    path: Path
    image: Image
    size: int


class NamedImages:
    """The user's images by name, in ``images`` of the state directory."""

    def __init__(self) -> None:
        self._root = state_directory() / "images"

    def find(self, name: str) -> Image | None:
        """The image with a name; None if there is none.

        Raises:
            InvalidError: it is damaged.
        """
        if not _NAME.fullmatch(name) or not (self._root / name).is_dir():
            return None
        return built_image(self._root / name)

    def all(self) -> list[NamedImage]:
        """All images that are whole, by name."""
        found = []
        for path in sorted(self._root.glob("[!.]*")):
            with contextlib.suppress(CoreInfraError):
                size = sum(file.stat().st_blocks * 512 for file in path.iterdir())
                found.append(NamedImage(path.name, path, built_image(path), size))
        return found

    def check_free(self, name: str, *, replace: bool) -> None:
        """Raise CoreInfraError if an image cannot get a name.

        Args:
            name: the name.
            replace: whether it may belong to another image.
        """
        if not _NAME.fullmatch(name) or name in _TAKEN:
            raise InvalidError(
                f"an image cannot be named {name!r}",
                why=f"{name} has a meaning of its own" if name in _TAKEN else "",
                todo="Use lower-case letters, digits and . _ -",
            )
        if (self._root / name).exists() and not replace:
            raise AlreadyExistsError(
                f"there is an image {name} already",
                why=str(self._root / name),
                todo=f"Replace it by --replace, or remove it: core-infra image rm {name}",
            )

    def add(
        self,
        name: str,
        image: Bootable,
        *,
        memory: int | None = None,
        cpus: int | None = None,
        replace: bool = False,
    ) -> Path:
        """Keep an image by name; return its directory.

        Args:
            name: the name.
            image: the image.
            memory: MiB of its machines; None: the image's.
            cpus: virtual processors of its machines; None: the image's.
            replace: replace another image of that name.

        Raises:
            AlreadyExistsError: another image has the name.
            InvalidError: the name is not possible, or the image is one that core-infra has not
                made.
            UnavailableError: there is no room for it.
        """
        self.check_free(name, replace=replace)
        if not isinstance(image, Image) or not (image.kernel.parent / MANIFEST).is_file():
            raise InvalidError(
                f"cannot keep {image.name} as {name}", why="it is a file of yours: use its path"
            )
        settings = {"name": name, "memory": memory or image.memory, "cpus": cpus or image.cpus}
        target = self._root / name
        with written(f"the image {name}", self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            with FileLock(self._root / ".lock"):
                for left in self._root.glob(f"{_UNFINISHED}*"):
                    shutil.rmtree(left, ignore_errors=True)
                self.check_free(name, replace=replace)
                work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._root))
                try:
                    _copy(image.kernel.parent, work / name, settings)
                    if target.exists():
                        target.rename(work / "old")
                    (work / name).rename(target)
                finally:
                    shutil.rmtree(work, ignore_errors=True)
        return target

    def remove(self, name: str) -> None:
        """Remove an image.

        Raises:
            NotFoundError: there is none of that name.
        """
        path = self._existing(name)
        with written(f"the image {name}", self._root), FileLock(self._root / ".lock"):
            work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._root))
            path.rename(work / name)
            shutil.rmtree(work)

    def export(self, name: str, directory: Path) -> None:
        """Copy an image to a new directory, which is an image on other hosts, too.

        Raises:
            NotFoundError: there is none of that name.
            AlreadyExistsError: the directory exists.
            UnavailableError: there is no room for it.
        """
        path = self._existing(name)
        if directory.exists():
            raise AlreadyExistsError(f"cannot export {name} to {directory}", why="it exists")
        with written(f"the image {name}", directory.parent):
            work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=directory.absolute().parent))
            try:
                _copy(path, work / name, {}, linked=False)
                (work / name).rename(directory)
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def _existing(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or not (self._root / name).is_dir():
            names = ", ".join(one.name for one in self.all()) or "none"
            raise NotFoundError(f"there is no image {name!r}", why=f"there are {names}")
        return self._root / name


def _copy(
    source: Path, target: Path, settings: Mapping[str, object], *, linked: bool = True
) -> None:
    target.mkdir()
    for name in _FILES:
        if (source / name).exists():
            _copy_file(source / name, target / name, linked=linked)
    record = json.loads((source / MANIFEST).read_bytes())
    record["image"] |= settings
    (target / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")


def _copy_file(source: Path, target: Path, *, linked: bool) -> None:
    """Copy a file that is never written to: a second name for it does as well."""
    if linked:
        try:
            target.hardlink_to(source)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
        else:
            return
    copy_file(source, target)
