"""The digests of the images that a LinuxKit file names: ``NAME.lock`` beside ``NAME.yml``.

A tag moves; a digest does not. With a lock, each build takes exactly these images, on every host.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core_infra._host import SHORT_NAMES
from core_infra._yaml.reading import each_value, one_of, read_yaml
from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm._cache import cache_root
from core_infra.vm._images.linuxkit.document import located, read_linuxkit
from core_infra.vm._images.oci.reference import DIGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from core_infra._yaml.field import Field

SUFFIX = ".lock"
_VERSION = "1"
_HEAD = (
    "# The images of {file}, as they were when this was written by: core-infra image lock {file}\n"
)


@dataclass
class Lock:
    """Digests of images.

    Attributes:
        path: its file.
        digests: for each address, the digest of the image's manifest for each platform.
    """

    path: Path
    digests: dict[str, dict[str, str]] = field(default_factory=dict)

    def digest(self, address: str, arch: str) -> str:
        """Return the digest of an image.

        Raises:
            NotFoundError: the lock does not have it.
        """
        found = self.digests.get(address, {}).get(platform(arch))
        if found is None:
            raise NotFoundError(
                f"{self.path} has no digest of {address} for {platform(arch)}",
                why="the file names it, but was changed after the lock was written"
                if address not in self.digests
                else f"it has those for {', '.join(self.digests[address]) or 'no platform'}",
                todo=f"Write it again: core-infra image lock {self.path.with_suffix('.yml')}",
            )
        return found

    def has(self, address: str, arch: str) -> bool:
        """Whether it has the digest of an image for an architecture."""
        return platform(arch) in self.digests.get(address, {})

    def write(self) -> None:
        """Write the file: whole, or not at all.

        Raises:
            UnavailableError: it cannot be written.
        """
        lines = [_HEAD.format(file=self.path.with_suffix(".yml").name)]
        lines += [f'version: "{_VERSION}"\n', "images:\n"]
        for address in sorted(self.digests):
            lines.append(f'  "{address}":\n')
            found = sorted(self.digests[address].items())
            lines += [f"    {one}: {digest}\n" for one, digest in found]
        part = self.path.with_name(f".{self.path.name}.new")
        try:
            part.write_text("".join(lines))
            part.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):  # on a read-only file system
                part.unlink(missing_ok=True)
            why = error.strerror or str(error)
            raise UnavailableError(f"cannot write {self.path}", why=why) from error


def platform(arch: str) -> str:
    """Return the name of a platform as indexes of images have it: ``linux/amd64``."""
    return f"linux/{SHORT_NAMES.get(arch, arch)}"


def lock_path(file: Path) -> Path:
    """Return the place of a file's lock."""
    return file.with_suffix(SUFFIX)


def find_lock(files: Iterable[Path]) -> Lock | None:
    """Return the lock of a file, or of the first of several; None if it has none.

    Raises:
        InvalidFileError: the lock has mistakes.
        InvalidError: it cannot be read.
    """
    for file in files:
        path = lock_path(file)
        try:
            return Lock(path, read_yaml(path.read_bytes(), str(path), _read))
        except FileNotFoundError:
            return None
        except OSError as error:
            why = error.strerror or str(error)
            raise InvalidError(f"the lock {path} cannot be read", why=why) from error
    return None


def write_lock(file: Path, *, progress: Callable[[str], None]) -> Lock:
    """Write the lock of a file: the digests that its images have now, for all platforms.

    Raises:
        InvalidFileError: the file has mistakes; it has all of them.
        NotFoundError: an image does not exist.
        UnavailableError: a registry cannot be reached, or the lock cannot be written.
    """
    # Imported here: it brings an HTTP client, which a lock that is only read does not need.
    from core_infra.vm._images.oci.sources import find_digests  # noqa: PLC0415

    lock = Lock(lock_path(file))
    bases = [file.parent.cwd(), file.absolute().parent]
    for address in read_linuxkit([(str(file), file.read_bytes())]).images():
        place = located(address, bases)
        found = find_digests(place, cache_dir=cache_root(), progress=progress)
        lock.digests[address] = {platform(arch): digest for arch, digest in found.items()}
    lock.write()
    return lock


def _read(top: Field) -> dict[str, dict[str, str]]:
    fields = top.fields(("version", "images"))
    fields.required("version", one_of([_VERSION]), "")
    digests: dict[str, dict[str, str]] = fields.required("images", each_value(_platforms), {})
    return digests


def _platforms(field: Field) -> dict[str, str]:
    return each_value(_digest)(field)


def _digest(field: Field) -> str:
    text = field.string()
    if not DIGEST.fullmatch(text):
        field.reject("a digest: sha256: and 64 hexadecimal digits")
    return text
