"""The file of a capsule: a ZIP archive of a manifest, and of the states of machines.

The manifest, ``capsule.json``, has the digest of each other member. A capsule is read only if its
manifest and all digests are right; nothing of it is run before.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from typing import TYPE_CHECKING, Any, Self

from core_infra._unpatched import Path, os
from core_infra.errors import InvalidError, NotFoundError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIX = ".capsule"
FORMAT = 2
_READABLE = (1, FORMAT)
_KIND = "core-infra capsule"
_MANIFEST = "capsule.json"
_LARGEST_MANIFEST = 64 << 20
_PIECE = 1 << 20


class CapsuleWriter:
    """Writes a capsule; the file appears whole at the end of the ``with`` block.

    Args:
        path: the file; replaced if it exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._digests: dict[str, str] = {}
        self._manifest: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._archive = zipfile.ZipFile(self._part, "w", zipfile.ZIP_STORED)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                facts = {"kind": _KIND, "format": FORMAT, "digests": self._digests}
                text = json.dumps(facts | self._manifest)
                self._archive.writestr(_MANIFEST, text, zipfile.ZIP_DEFLATED)
            self._archive.close()
            if kind is None:
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)

    def set_manifest(self, manifest: dict[str, Any]) -> None:
        """What the capsule says, in types of JSON."""
        self._manifest = manifest

    def add(self, name: str, produce: Callable[[Callable[[bytes], object]], object]) -> None:
        """Add a compressed member; *produce* is called with the function that writes it.

        If *produce* fails, what it has written stays a member, but is not listed.
        """
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: 1,
            zstd.CompressionParameter.nb_workers: min(2, os.cpu_count() or 1),
        }
        compressor = zstd.ZstdCompressor(options=options)
        digest = hashlib.sha256()
        with self._archive.open(name, "w", force_zip64=True) as member:

            def put(data: bytes) -> None:
                digest.update(data)
                member.write(data)

            produce(lambda data: put(compressor.compress(data)))
            put(compressor.flush())
        self._digests[name] = digest.hexdigest()

    def add_file(self, name: str, path: Path) -> None:
        """Add a file of this host as a member."""

        def produce(put: Callable[[bytes], object]) -> None:
            with path.open("rb") as file:
                while data := file.read(_PIECE):
                    put(data)

        self.add(name, produce)


class Capsule:
    """A capsule that was checked.

    Args:
        path: the file.

    Attributes:
        path: the file.
        manifest: what it says.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: it is not a capsule, is of another version, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self.manifest = _read_manifest(archive)
                for name, digest in self.manifest["digests"].items():
                    _check(archive, name, digest)
        except FileNotFoundError:
            raise NotFoundError(f"there is no capsule {path}") from None
        except IsADirectoryError:
            raise InvalidError(f"{path} is not a capsule", why="it is a directory") from None
        except _ForeignError as error:
            raise InvalidError(f"{path} is not a capsule", why=str(error)) from None
        except Exception as error:  # zipfile and json raise many kinds for damaged files
            raise InvalidError(
                f"the capsule {path} is damaged",
                why=str(error) or type(error).__name__,
                todo="Copy it again from where it was made.",
            ) from error

    def extract(self, name: str, target: Path, *, limit: int) -> None:
        """Unpack a member into a new file.

        Raises:
            InvalidError: it has more than *limit* bytes, or cannot be unpacked.
        """
        try:
            with (
                zipfile.ZipFile(self.path) as archive,
                archive.open(name) as member,
                zstd.open(member, "rb") as source,
                target.open("xb") as file,
            ):
                while data := source.read(_PIECE):
                    _check_size(name, file.tell() + len(data), limit)
                    file.write(data)
        except (ValueError, EOFError, zstd.ZstdError, zipfile.BadZipFile) as error:
            raise InvalidError(f"the capsule {self.path} is damaged", why=str(error)) from error


class _ForeignError(Exception):
    """The file is something else."""


def _check(archive: zipfile.ZipFile, name: str, digest: str) -> None:
    found = hashlib.sha256()
    with archive.open(name) as member:
        while data := member.read(_PIECE):
            found.update(data)
    if found.hexdigest() != digest:
        raise ValueError(f"{name} is not what was saved")


def _check_size(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"{name} is larger than it can be")


def _read_manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        info = archive.getinfo(_MANIFEST)
    except KeyError:
        raise _ForeignError(f"it has no {_MANIFEST}") from None
    if info.file_size > _LARGEST_MANIFEST:
        raise ValueError(f"{_MANIFEST} is too large")
    found = json.loads(archive.read(info))
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise _ForeignError(f"its {_MANIFEST} is of something else")
    if found.get("format") not in _READABLE:
        raise _ForeignError(
            f"it has the format {found.get('format')!r}, and this version reads 1 to {FORMAT}"
        )
    machines, digests = found.get("machines"), found.get("digests")
    if not isinstance(machines, list) or not isinstance(digests, dict):
        raise ValueError("its manifest is incomplete")  # noqa: TRY004 - as of other damage
    return found
