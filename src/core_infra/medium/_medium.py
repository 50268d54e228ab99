"""The port: what every medium does, and what it raises.

Paths are strings or path objects (``os.PathLike``) with ``/`` between the names, absolute or
relative to the medium's root (for the real file system without a root: to the working directory).
``..`` is resolved by its text, see
:func:`core_infra.medium._paths.clean`. Text is UTF-8, and line ends are left as they are.

The same situation raises the same error in every medium:

======================================================  ======================================
reading, listing, renaming, deleting a missing path     PathNotFoundError (FileNotFoundError)
``delete_all`` of a missing path                        nothing: it is gone
reading, writing, appending to a directory              PathIsDirectoryError (IsADirectoryError)
listing a file; a file among a path's parents; a file   PathNotDirectoryError
where ``ensure_dir`` wants a directory                  (NotADirectoryError)
deleting a directory that has entries                   DirectoryNotEmptyError (OSError)
renaming onto a directory, or a directory onto a file   PathExistsError (FileExistsError)
renaming a directory into itself                        InvalidPathError (ValueError)
deleting or renaming the root                           InvalidPathError
an empty path, a NUL or a name over 255 bytes in it     InvalidPathError
a path above the root, where nothing is above           InvalidPathError
text that is not UTF-8, read or written                 InvalidTextError (ValueError)
the system forbids it                                   AccessDeniedError (PermissionError)
the disk is full or failing                             StorageError (OSError)
======================================================  ======================================

``exists``, ``is_file`` and ``is_dir`` answer False in the situations of the first and third line.
Each error has ``path`` (as given); those about the state of files have ``errno`` and ``filename``
as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from core_infra.medium._errors import InvalidTextError, PathNotDirectoryError, PathNotFoundError
from core_infra.medium._paths import clean

if TYPE_CHECKING:
    import builtins

    from core_infra.medium._paths import StrPath


class FileInfo(NamedTuple):
    """What a medium knows of a file or directory without reading it.

    Attributes:
        name: the last name of its path; ``.`` for a root.
        size: in bytes; 0 for a directory.
        mode: the nine permission bits.
        modified: when its content changed last, in seconds since the epoch.
        is_dir: whether it is a directory.
    """

    name: str
    size: int
    mode: int
    modified: float
    is_dir: bool


class Medium(Protocol):
    """A file system as a value.

    Whatever makes an entry makes its missing parents too. A backend that subclasses this class
    inherits the operations that follow from others.
    """

    def read_bytes(self, path: StrPath) -> bytes:
        """Return a file's content."""
        ...

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file: a reader sees the old content or the new, never a mixture.

        Args:
            path: the file, made if it is missing.
            data: its whole new content.
            mode: its permission bits; by default those of the file that it replaces, and for a
                new one what is usual (0o666 without the umask).
        """
        ...

    def open(self, path: StrPath) -> BinaryIO:
        """Open a file for reading; a write meanwhile does not disturb the reader."""
        ...

    def create(self, path: StrPath, *, mode: int | None = None) -> BinaryIO:
        """Write a whole file piece by piece; it appears when the writer is closed.

        When its ``with`` block is left by an exception, or it is never closed, the path stays as
        it was.
        """
        ...

    def append(self, path: StrPath) -> BinaryIO:
        """Open a file, made if it is missing, for writing at its end, visible from each flush."""
        ...

    def stat(self, path: StrPath) -> FileInfo:
        """Describe what is at a path (links followed)."""
        ...

    def list(self, path: StrPath) -> builtins.list[str]:
        """Return the names in a directory, sorted by code points.

        Names only, because that is what a directory has: an entry may dangle, or be gone before
        it can be described.
        """
        ...

    def ensure_dir(self, path: StrPath) -> None:
        """Make a directory, unless it is there."""
        ...

    def rename(self, old: StrPath, new: StrPath) -> None:
        """Move a file or directory in one step; a file at *new* is replaced by a file."""
        ...

    def delete(self, path: StrPath) -> None:
        """Delete a file or an empty directory."""
        ...

    def delete_all(self, path: StrPath) -> None:
        """Delete a file or a directory with all that is in it, if it is there.

        What another thread or process puts there meanwhile is deleted too, or comes after.
        """
        ...

    def identity(self, path: StrPath) -> object:
        """Return a value that is equal for two paths that lead to the same file or directory.

        :func:`copy` and :func:`pack` recognize by it links that lead back to a directory above. A
        backend without links need not override it.
        """
        return clean(path)

    def read_text(self, path: StrPath) -> str:
        """Return a file's content as text."""
        data = self.read_bytes(path)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise InvalidTextError(
                f"cannot read {path!r} as text",
                why=f"byte {error.start} is not UTF-8",
                todo="Use read_bytes for binary files.",
                path=path,
                offset=error.start,
            ) from error

    def write_text(self, path: StrPath, text: str, *, mode: int | None = None) -> None:
        """Write a whole file, as :meth:`write_bytes` does."""
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidTextError(
                f"cannot write {path!r} as text",
                why=f"character {error.start} has no UTF-8 form",
                path=path,
                offset=error.start,
            ) from error
        self.write_bytes(path, data, mode=mode)

    def exists(self, path: StrPath) -> bool:
        """Tell whether anything is at a path."""
        return self._look(path) is not None

    def is_file(self, path: StrPath) -> bool:
        """Tell whether a file, or anything else that is no directory, is at a path."""
        info = self._look(path)
        return info is not None and not info.is_dir

    def is_dir(self, path: StrPath) -> bool:
        """Tell whether a directory is at a path."""
        info = self._look(path)
        return info is not None and info.is_dir

    def _look(self, path: StrPath) -> FileInfo | None:
        try:
            return self.stat(path)
        except (PathNotFoundError, PathNotDirectoryError):
            return None
