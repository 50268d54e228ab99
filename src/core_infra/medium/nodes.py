"""What a medium in memory is made of."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

from core_infra.medium.medium import FileInfo

if TYPE_CHECKING:
    import threading

    from _typeshed import ReadableBuffer


class File:
    """One version of a file; only appending changes it, and only under the medium's lock."""

    __slots__ = ("data", "info")

    def __init__(self, name: str, data: bytes, mode: int, new_mode: int | None = None) -> None:
        if new_mode is not None:
            mode = new_mode & 0o777
        self.data: bytes | bytearray = data
        self.info = FileInfo._make((name, len(data), mode, time.time(), False))

    def rename(self, name: str) -> None:
        """Change its name."""
        self.info = self.info._replace(name=name)

    def extend(self, data: ReadableBuffer) -> None:
        """Add to its end."""
        if not isinstance(self.data, bytearray):
            self.data = bytearray(self.data)
        self.data += data
        self.info = self.info._replace(size=len(self.data), modified=time.time())


class Dir:
    """A directory and the names in it."""

    __slots__ = ("_modified", "_name", "children")

    def __init__(self, name: str) -> None:
        self._name = name
        self._modified = time.time()
        self.children: set[str] = set()

    @property
    def info(self) -> FileInfo:
        """What stat tells."""
        return FileInfo(self._name, 0, 0o755, self._modified, is_dir=True)

    def rename(self, name: str) -> None:
        """Change its name."""
        self._name = name

    def add(self, name: str) -> None:
        """Note a new entry."""
        self.children.add(name)
        self._modified = time.time()

    def remove(self, name: str) -> None:
        """Forget an entry."""
        self.children.remove(name)
        self._modified = time.time()


class Appender(io.RawIOBase):
    """Writes at the end of a file, whatever its name has become."""

    def __init__(self, file: File, lock: threading.Lock) -> None:
        self._file = file
        self._lock = lock

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Take all of it."""
        with self._lock, memoryview(data) as view:
            self._file.extend(view)
            return view.nbytes
