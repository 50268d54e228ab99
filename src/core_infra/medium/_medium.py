"""The interface of every medium: its operations and errors.

Paths are strings or path objects (``os.PathLike``) with ``/`` between the names, absolute or
relative to the medium's root (for the real file system without a root: to the working directory).
``..`` is resolved textually, see :func:`core_infra.medium._paths.clean`. Text is UTF-8, and line
ends are left as they are.

The same situation raises the same error in every medium:

======================================================  ======================================
reading, listing, renaming, deleting a missing path     PathNotFoundError (FileNotFoundError)
``delete_all`` of a missing path                        nothing
reading, writing, appending to a directory              PathIsDirectoryError (IsADirectoryError)
listing a file; a file among a path's parents; a file   PathNotDirectoryError
where ``ensure_dir`` wants a directory                  (NotADirectoryError)
deleting a directory that has entries                   DirectoryNotEmptyError (OSError)
renaming onto a directory, or a directory onto a file   PathExistsError (FileExistsError)
renaming a directory into itself                        InvalidPathError (ValueError)
deleting or renaming the root                           InvalidPathError
an empty path, a NUL or a name over 255 bytes in it     InvalidPathError
a path above the root of a medium in memory             InvalidPathError
text that is not UTF-8, read or written                 InvalidTextError (ValueError)
the system denies it                                    AccessDeniedError (PermissionError)
the disk is full or failing                             StorageError (OSError)
======================================================  ======================================

``exists``, ``is_file`` and ``is_dir`` return False for a missing path, and if a file is among the
path's parents. Each error has ``path`` (as given); errors about the state of files also have
``errno`` and ``filename``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from core_infra.medium._arguments import check_text
from core_infra.medium._errors import InvalidTextError, PathNotDirectoryError, PathNotFoundError
from core_infra.medium._paths import clean

if TYPE_CHECKING:
    import builtins

    from core_infra.medium._errors import StrPath


class FileInfo(NamedTuple):
    """The description of a file or directory.

    Attributes:
        name: the last name of its path; ``.`` for a root.
        size: in bytes; 0 for a directory.
        mode: the nine permission bits.
        modified: the time of the last change of its content, in seconds since the epoch.
        is_dir: whether it is a directory.
    """

    name: str
    size: int
    mode: int
    modified: float
    is_dir: bool


class Medium(Protocol):
    """A file system as a value.

    Operations that create an entry also create its missing parents. A subclass inherits the
    operations that are implemented in terms of others.
    """

    def read_bytes(self, path: StrPath) -> bytes:
        """Return a file's content."""
        ...

    def write_bytes(self, path: StrPath, data: bytes, *, mode: int | None = None) -> None:
        """Write a whole file: a reader sees the old content or the new, never a mixture.

        Args:
            path: the file, created if it is missing.
            data: the complete new content.
            mode: the permission bits; by default those of the replaced file, or for a new file
                0o666 without the umask.
        """
        ...

    def open(self, path: StrPath) -> BinaryIO:
        """Open a file for reading; a concurrent write does not affect the reader."""
        ...

    def create(self, path: StrPath, *, mode: int | None = None) -> BinaryIO:
        """Write a whole file piece by piece; it appears when the writer is closed.

        If its ``with`` block raises, or it is never closed, the path stays as it was.
        """
        ...

    def append(self, path: StrPath) -> BinaryIO:
        """Open a file, created if it is missing, for appending; data is visible after a flush."""
        ...

    def stat(self, path: StrPath) -> FileInfo:
        """Describe the file or directory at a path (links followed)."""
        ...

    def list(self, path: StrPath) -> builtins.list[str]:
        """Return the names in a directory, sorted by code points.

        Only names, because an entry may be a dangling link, or be deleted before it is described.
        """
        ...

    def ensure_dir(self, path: StrPath) -> None:
        """Make a directory, unless it exists."""
        ...

    def rename(self, old: StrPath, new: StrPath) -> None:
        """Move a file or directory atomically; a file replaces a file at *new*."""
        ...

    def delete(self, path: StrPath) -> None:
        """Delete a file or an empty directory."""
        ...

    def delete_all(self, path: StrPath) -> None:
        """Delete a file or a directory tree, if it exists.

        Entries that another thread or process adds at the same time are deleted as well, unless
        they are added afterwards.
        """
        ...

    def identity(self, path: StrPath) -> object:
        """Return a value that is equal for two paths of the same file or directory.

        :func:`copy` and :func:`pack` use it to detect links to a parent directory. A medium without
        links need not override it.
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
        check_text(text)
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
        """Whether a file or directory exists at a path."""
        return self._look(path) is not None

    def is_file(self, path: StrPath) -> bool:
        """Whether a file, or anything else but a directory, exists at a path."""
        info = self._look(path)
        return info is not None and not info.is_dir

    def is_dir(self, path: StrPath) -> bool:
        """Whether a directory exists at a path."""
        info = self._look(path)
        return info is not None and info.is_dir

    def _look(self, path: StrPath) -> FileInfo | None:
        try:
            return self.stat(path)
        except (PathNotFoundError, PathNotDirectoryError):
            return None
