"""Where blobs of images are kept: an OCI image layout in the cache, readable by skopeo and others.

A blob is written beside its place and renamed when its digest is right, so what is there is whole,
whatever was killed. Several processes may write the same one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._free_space import written
from core_infra.vm._images.oci.reference import DIGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_INDEX = "application/vnd.oci.image.index.v1+json"
_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 1 << 20


class Store:
    """An OCI image layout.

    Args:
        root: its directory, made when something is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Return the place of a blob.

        Raises:
            InvalidError: this is not a digest that is known here.
        """
        if not DIGEST.fullmatch(digest):
            raise InvalidError(
                f"the digest {digest!r} cannot be checked",
                why="only sha256 is known here",
            )
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return self.path(digest).is_file()

    def read(self, digest: str, limit: int) -> bytes:
        """Return a small blob, and check its digest.

        Raises:
            NotFoundError: it is not there.
            InvalidError: it is longer than *limit*, or damaged.
        """
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError as error:
            raise NotFoundError(f"the image lacks the blob {digest}", why=str(path)) from error
        except OSError as error:
            why = error.strerror or str(error)
            raise InvalidError(f"the image's blob {path} cannot be read", why=why) from error
        if len(data) > limit:
            raise InvalidError(f"the image's blob {digest} has more than {limit} bytes")
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise InvalidError(
                f"the image's blob {path} is damaged", why="its content does not have its digest"
            )
        return data

    def add(self, pieces: Iterable[bytes], digest: str = "") -> str:
        """Write a blob; return its digest.

        Args:
            pieces: its content.
            digest: what it must have; "" takes any.

        Raises:
            InvalidError: its digest is another; nothing is kept.
            UnavailableError: it cannot be written.
        """
        total = hashlib.sha256()
        with written("a blob of an image", self.root), self._new() as part:
            with part.open("wb") as file:
                for piece in pieces:
                    total.update(piece)
                    file.write(piece)
            found = f"sha256:{total.hexdigest()}"
            if digest and found != digest:
                raise InvalidError(
                    "a blob of the image is not what its digest says",
                    why=f"{digest} was asked for, and {found} came",
                )
            part.replace(self.path(found))
        return found

    @contextlib.contextmanager
    def _new(self) -> Iterator[Path]:
        blobs = self.root / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        layout = self.root / "oci-layout"
        with filelock.FileLock(self.root / ".lock"):
            if not layout.exists():
                part = self.root / ".oci-layout"
                part.write_text(json.dumps(_LAYOUT))
                part.replace(layout)
            for left in self.root.glob(".part-*"):
                remove_if_left(left)
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.root))
            lock = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield part / "blob"
        finally:
            shutil.rmtree(part, ignore_errors=True)
            os.close(lock)

    def name(self, reference: str, descriptor: dict[str, Any]) -> None:
        """Remember what a name stands for."""
        with written("the index of images", self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.root / ".lock"):
                others = [
                    one
                    for one in self.named()
                    if one.get("annotations", {}).get(_NAME) != reference
                ]
                entry = descriptor | {"annotations": {_NAME: reference}}
                index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [*others, entry]}
                part = self.root / ".index.json"
                part.write_text(json.dumps(index, indent=1))
                part.replace(self.root / "index.json")

    def named(self) -> list[dict[str, Any]]:
        """Return the descriptors of all images that have a place in the index.

        Raises:
            InvalidError: the index is damaged.
        """
        path = self.root / "index.json"
        try:
            index = json.loads(path.read_bytes())
            manifests = index["manifests"]
        except FileNotFoundError:
            return []
        except OSError as error:
            why = error.strerror or str(error)
            raise InvalidError(f"the index {path} cannot be read", why=why) from error
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidError(f"the index {path} is damaged", why=str(error)) from error
        if not isinstance(manifests, list) or not all(isinstance(one, dict) for one in manifests):
            raise InvalidError(f"the index {path} is damaged", why="it lists no descriptors")
        return manifests

    def find(self, reference: str) -> dict[str, Any] | None:
        """Return the descriptor that a name stands for; None if nothing has that name."""
        for one in self.named():
            if one.get("annotations", {}).get(_NAME) == reference:
                return one
        return None


def remove_if_left(part: Path, first: Callable[[Path], None] = lambda _: None) -> None:
    """Remove what a killed process has left, unless another process holds its lock.

    Args:
        part: its directory.
        first: is called with it before; it can save what is worth it.
    """
    try:
        lock = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is locked, or the file system has no locks
        return
    else:
        first(part)
        shutil.rmtree(part, ignore_errors=True)
    finally:
        os.close(lock)
