"""The file of a capsule: a ZIP archive of a manifest, and of the states of machines.

The manifest, ``capsule.json``, has the digest of each other member. A capsule is read only if its
manifest and all digests are right; nothing of it is run before. A member can be stored as the
difference to another one, which zstd has then as a prefix, as with its option ``--patch-from``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import sys
import zipfile
from typing import IO, TYPE_CHECKING, Any, Self

from core_infra._unpatched import Path, os
from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._free_space import free, no_room, written

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUFFIX = ".capsule"
FORMAT = 2
_READABLE = (1, FORMAT)
_KIND = "core-infra capsule"
_MANIFEST = "capsule.json"
_LARGEST_MANIFEST = 64 << 20
_END, _END64 = b"PK\5\6", b"PK\6\7"
_END_SIZE, _LOCATOR_SIZE = 22, 20
_LARGEST_DIRECTORY = 1 << 20
"""Bytes of the archive's list of members, which is read as a whole."""

_LEAST_FREE = 256 << 20
"""Bytes that unpacking leaves free on this host, or a twentieth of a small file system."""

_PIECE = 1 << 20
_LARGEST_BASE = 1280 << 20
"""Bytes of a member that others are differences to; it is in memory while these are read."""

_LARGEST_WINDOW = 31
"""The binary logarithm of the bytes that zstd looks back at most."""


class CapsuleWriter:
    """Writes a capsule; the file appears whole at the end of the ``with`` block.

    Args:
        path: the file; replaced if it exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._digests: dict[str, str] = {}
        self._over: dict[str, str] = {}
        self._bases: dict[str, bytes] = {}
        self._manifest: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for part in self._path.parent.glob(f".*{SUFFIX}.*.part"):
            _remove_abandoned(part)
        self._file = _locked(self._part)
        self._archive = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                facts = {"kind": _KIND, "format": FORMAT, "digests": self._digests}
                if self._over:
                    facts["over"] = self._over
                text = json.dumps(facts | self._manifest)
                self._archive.writestr(_MANIFEST, text, zipfile.ZIP_DEFLATED)
                self._archive.close()
                self._file.flush()
                self._part.replace(self._path)
        finally:
            self._archive.fp = None  # what failed is not completed when it is collected
            with contextlib.suppress(OSError):
                self._file.close()
            self._part.unlink(missing_ok=True)

    def set_manifest(self, manifest: dict[str, Any]) -> None:
        """What the capsule says, in types of JSON."""
        self._manifest = manifest

    def add(
        self,
        name: str,
        produce: Callable[[Callable[[bytes], object]], object],
        *,
        is_base: bool = False,
        over: str | None = None,
    ) -> None:
        """Add a compressed member; *produce* is called with the function that writes it.

        If *produce* fails, what it has written stays a member, but is not listed.

        Args:
            name: the member's.
            produce: writes it.
            is_base: keep it in memory until :meth:`forget_bases`, for *over*.
            over: store the difference to this member, if that is still in memory.
        """
        base = None if over is None else self._bases.get(over)
        compressor = _compressor(base)
        digest = hashlib.sha256()
        pieces: list[bytes] = []

        def compress(data: bytes) -> bytes:
            if is_base:
                pieces.append(bytes(data))
            return compressor.compress(data)

        with self._archive.open(name, "w", force_zip64=True) as member:

            def put(data: bytes) -> None:
                digest.update(data)
                member.write(data)

            produce(lambda data: put(compress(data)))
            put(compressor.flush())
        self._digests[name] = digest.hexdigest()
        if over is not None and base is not None:
            self._over[name] = over
        if is_base:
            self._bases[name] = b"".join(pieces)

    def forget_bases(self) -> None:
        """Free the memory of the members that others were differences to."""
        self._bases.clear()

    def add_file(
        self, name: str, path: Path, *, is_base: bool = False, over: str | None = None
    ) -> None:
        """Add a file of this host as a member, as :meth:`add` does."""

        def produce(put: Callable[[bytes], object]) -> None:
            with path.open("rb") as file:
                while data := file.read(_PIECE):
                    put(data)

        self.add(name, produce, is_base=is_base, over=over)


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
            _check_end(path)
            with zipfile.ZipFile(path) as archive:
                self.manifest = _read_manifest(archive)
                _check_members(archive, self.manifest["digests"])
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
            UnavailableError: this host has no room for it.
        """
        try:
            least = _least_free(target.parent)
            with (
                written(f"a part of {self.path}", target.parent),
                zipfile.ZipFile(self.path) as archive,
                target.open("xb") as file,
            ):
                for data in self._content(archive, name, limit):
                    if free(target.parent) < least:
                        raise no_room(f"a part of {self.path}", target.parent)
                    file.write(data)
        except (ValueError, EOFError, zstd.ZstdError, zipfile.BadZipFile) as error:
            raise InvalidError(f"the capsule {self.path} is damaged", why=str(error)) from error

    def _content(self, archive: zipfile.ZipFile, name: str, limit: int) -> Iterator[bytes]:
        """A member, piece by piece."""
        base = self.manifest.get("over", {}).get(name)
        prefix = None
        if base is not None:
            prefix = b"".join(self._content(archive, base, min(limit, _LARGEST_BASE)))
        size = 0
        with archive.open(name) as member, _reader(member, prefix) as source:
            while data := source.read(_PIECE):
                size += len(data)
                _check_size(name, size, limit)
                yield data


def _compressor(base: bytes | None) -> zstd.ZstdCompressor:
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {parameter.compression_level: 1}
    if base is None:
        options[parameter.nb_workers] = min(2, os.cpu_count() or 1)
        return zstd.ZstdCompressor(options=options)
    options |= {
        parameter.enable_long_distance_matching: 1,
        parameter.window_log: _window_log(base),
    }
    return zstd.ZstdCompressor(options=options, zstd_dict=_prefix(base))


def _reader(member: IO[bytes], base: bytes | None) -> zstd.ZstdFile:
    if base is None:
        return zstd.ZstdFile(member)
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _window_log(base)}
    return zstd.ZstdFile(member, options=options, zstd_dict=_prefix(base))


def _prefix(base: bytes) -> tuple[zstd.ZstdDict, int]:
    return zstd.ZstdDict(base, is_raw=True).as_prefix


def _window_log(base: bytes) -> int:
    """Far enough back for the same place in the base, and a quarter of it more."""
    return max(20, min(_LARGEST_WINDOW, (len(base) * 5 // 4).bit_length()))


def _locked(part: Path) -> IO[bytes]:
    """A new file, with a lock that shows that its writer lives."""
    while True:
        file = part.open("w+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # removed as abandoned before it was locked
            if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                return file
        file.close()


def _remove_abandoned(part: Path) -> None:
    """Remove what a process that was killed has left; a living one holds its lock."""
    with contextlib.suppress(OSError), part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()


class _ForeignError(Exception):
    """The file is something else."""


def _check_end(path: Path) -> None:
    """Refuse a file whose list of members is too large to be read, or is not at its end."""
    if not path.is_file():
        if path.exists() and not path.is_dir():
            raise _ForeignError("it is not a regular file")
        return  # for the error of opening it
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_SIZE - _LOCATOR_SIZE))
        tail = file.read()
    end = tail[-_END_SIZE:]
    if not end.startswith(_END) or end[-2:] != b"\0\0":
        raise ValueError("it has no list of members at its end")
    # One of 64 bits replaces it, and is written beyond 2 GiB only.
    has_other = tail.startswith(_END64) and size <= zipfile.ZIP64_LIMIT
    if has_other or int.from_bytes(end[12:16], "little") > _LARGEST_DIRECTORY:
        raise ValueError("its list of members is too large")


def _check_members(archive: zipfile.ZipFile, digests: dict[str, str]) -> None:
    # Stored, and apart from each other: so no small file makes the reader read a large one.
    infos = [archive.getinfo(name) for name in digests]
    if sum(one.file_size for one in infos) > archive.start_dir or any(
        one.compress_type != zipfile.ZIP_STORED for one in infos
    ):
        raise ValueError("its members are not as they were written")
    for name, digest in digests.items():
        _check(archive, name, digest)


def _least_free(directory: Path) -> int:
    status = os.statvfs(directory)
    return min(_LEAST_FREE, status.f_blocks * status.f_frsize // 20)


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
    _check_texts([found.get("groups"), list(digests)])
    for moment in found.get("moments", ()):
        _check_texts([moment["machine"], moment["machines"], moment["networks"]])
    over = found.get("over", {})
    if not isinstance(over, dict) or any(
        one not in digests or base not in digests or base in over for one, base in over.items()
    ):
        raise ValueError("its differences are to nothing")
    for machine in machines:
        if isinstance(machine, dict):
            _check_texts({key: text for key, text in machine.items() if key in _SHOWN})
    return found


_SHOWN = ("name", "status", "facts", "disks", "cards", "state")
"""What messages show of a machine: a terminal must not obey it."""


def _check_texts(value: object) -> None:
    if isinstance(value, str) and not value.isprintable():
        raise ValueError(f"{value[:80]!a} is not a name")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for one in value:
            _check_texts(one)
