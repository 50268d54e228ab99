"""A medium that a stranger might write: simple, slow, and right."""

from __future__ import annotations

import io
import os
import posixpath
import time
from typing import TYPE_CHECKING, BinaryIO, cast

from core_infra.medium import (
    AtomicWriter,
    DirectoryNotEmptyError,
    FileInfo,
    InvalidPathError,
    Medium,
    PathExistsError,
    PathIsDirectoryError,
    PathNotDirectoryError,
    PathNotFoundError,
    StrPath,
)

if TYPE_CHECKING:
    import builtins

    from _typeshed import ReadableBuffer


class Entry:
    def __init__(self, mode: int) -> None:
        self.data = b""
        self.mode = mode
        self.modified = time.time()


class ToyMedium(Medium):
    def __init__(self) -> None:
        self.files: dict[str, Entry] = {}
        self.dirs = {"."}

    def key(self, path: StrPath) -> str:
        if isinstance(path, os.PathLike):
            path = os.fspath(path)
        if not isinstance(path, str):
            raise InvalidPathError(f"cannot use {path!r}", path=path)
        key = posixpath.normpath(path).lstrip("/") or "."
        try:
            fits = all(len(name.encode(errors="surrogateescape")) <= 255 for name in key.split("/"))
        except UnicodeEncodeError:
            fits = False
        if not path or "\0" in path or not fits or key.startswith("../") or key == "..":
            raise InvalidPathError(f"cannot use {path!r}", path=path)
        return key

    def find(self, path: StrPath) -> Entry | None:
        """Return the file, or None for a directory."""
        key = self.key(path)
        if key in self.dirs:
            return None
        if key not in self.files:
            self.check_parents(path)
            raise PathNotFoundError(f"there is no {path!r}", path=path)
        return self.files[key]

    def check_parents(self, path: StrPath) -> None:
        key = self.key(path)
        while key := posixpath.dirname(key):
            if key in self.files:
                raise PathNotDirectoryError(f"{key!r} is a file", path=path)

    def file(self, path: StrPath) -> Entry:
        entry = self.find(path)
        if entry is None:
            raise PathIsDirectoryError(f"{path!r} is a directory", path=path)
        return entry

    def make_parents(self, path: StrPath) -> str:
        self.check_parents(path)
        key = above = self.key(path)
        while above := posixpath.dirname(above):
            self.dirs.add(above)
        return key

    def read_bytes(self, path: StrPath) -> bytes:
        return self.file(path).data

    def open(self, path: StrPath) -> BinaryIO:
        return io.BytesIO(self.read_bytes(path))

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        data = bytes(memoryview(data))
        if self.key(path) in self.dirs:
            raise PathIsDirectoryError(f"{path!r} is a directory", path=path)
        key = self.make_parents(path)
        usual = self.files[key].mode if key in self.files else 0o644
        entry = Entry(usual if mode is None else mode & 0o777)
        entry.data = data
        self.files[key] = entry

    def create(self, path: StrPath, *, mode: int | None = None) -> BinaryIO:
        if self.key(path) in self.dirs:
            raise PathIsDirectoryError(f"{path!r} is a directory", path=path)
        self.make_parents(path)
        buffer = io.BytesIO()
        return AtomicWriter(
            cast("io.RawIOBase", buffer),
            lambda: self.write_bytes(path, buffer.getvalue(), mode=mode),
            lambda: None,
        )

    def append(self, path: StrPath) -> BinaryIO:
        if not self.exists(path):
            self.write_bytes(path, b"")
        return io.BufferedWriter(Appender(self.file(path)))

    def stat(self, path: StrPath) -> FileInfo:
        entry = self.find(path)
        name = posixpath.basename(self.key(path))
        if entry is None:
            return FileInfo(name, 0, 0o755, time.time(), is_dir=True)
        return FileInfo(name, len(entry.data), entry.mode, entry.modified, is_dir=False)

    def list(self, path: StrPath) -> builtins.list[str]:
        if self.find(path) is not None:
            raise PathNotDirectoryError(f"{path!r} is a file", path=path)
        return sorted(posixpath.basename(key) for key in self.children(self.key(path)))

    def children(self, key: str) -> builtins.list[str]:
        entries = [*self.files, *(self.dirs - {"."})]
        return [entry for entry in entries if (posixpath.dirname(entry) or ".") == key]

    def ensure_dir(self, path: StrPath) -> None:
        key = self.key(path)
        if key in self.files:
            raise PathNotDirectoryError(f"{path!r} is a file", path=path)
        self.make_parents(path)
        self.dirs.add(key)

    def rename(self, old: StrPath, new: StrPath) -> None:
        source, target = self.no_root(old), self.no_root(new)
        is_dir = self.find(old) is None
        if source == target:
            return
        if is_dir and target.startswith(source + "/"):
            raise InvalidPathError(f"{new!r} is in {old!r}", path=new)
        if target in self.dirs or (is_dir and target in self.files):
            raise PathExistsError(f"{new!r} is there", path=new)
        self.make_parents(new)
        for entry in [*self.dirs]:
            if f"{entry}/".startswith(f"{source}/"):
                self.dirs.remove(entry)
                self.dirs.add(target + entry[len(source) :])
        for entry in [*self.files]:
            if f"{entry}/".startswith(f"{source}/"):
                self.files[target + entry[len(source) :]] = self.files.pop(entry)

    def delete(self, path: StrPath) -> None:
        key = self.no_root(path)
        if self.find(path) is None:
            if self.children(key):
                raise DirectoryNotEmptyError(f"{path!r} has entries", path=path)
            self.dirs.remove(key)
        else:
            del self.files[key]

    def delete_all(self, path: StrPath) -> None:
        key = self.no_root(path)
        for entry in [*self.dirs, *self.files]:
            if f"{entry}/".startswith(f"{key}/"):
                self.dirs.discard(entry)
                self.files.pop(entry, None)

    def no_root(self, path: StrPath) -> str:
        key = self.key(path)
        if key == ".":
            raise InvalidPathError("the root stays", path=path)
        return key


class Appender(io.RawIOBase):
    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        self.entry.data += bytes(data)
        self.entry.modified = time.time()
        return memoryview(data).nbytes
