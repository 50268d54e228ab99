"""What goes wrong with paths and files, the same in every medium.

Each error is one of the library's kinds and, where Python has a name for the situation, that
builtin as well: ``except FileNotFoundError`` goes on working.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from core_infra.errors import (
    AlreadyExistsError,
    CoreInfraError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)

if TYPE_CHECKING:
    from core_infra.medium._paths import StrPath


class PathNotFoundError(NotFoundError, FileNotFoundError):
    """There is nothing at this path."""


class PathExistsError(AlreadyExistsError, FileExistsError):
    """Something is at this path that must not be replaced."""


class PathIsDirectoryError(InvalidError, IsADirectoryError):
    """A directory is where a file is needed."""


class PathNotDirectoryError(InvalidError, NotADirectoryError):
    """A file is where a directory is needed."""


class InvalidPathError(InvalidError, ValueError):
    """No medium can do this with a path of this form."""


class OutsideSandboxError(InvalidPathError):
    """A path leads out of a sandbox: by itself, or by a link on its way."""


class InvalidTextError(InvalidError, ValueError):
    """A file's bytes are not UTF-8, or a text cannot be written as UTF-8."""


class DirectoryNotEmptyError(WrongStateError, OSError):
    """A directory that has entries cannot be deleted on its own."""


class AccessDeniedError(UnavailableError, PermissionError):
    """The system does not allow it."""


class StorageError(UnavailableError, OSError):
    """The storage failed: full, broken, too many open files, another file system."""


OUTSIDE = -errno.EXDEV
"""What a sandbox says where the kernel says EXDEV, which has other meanings too."""

_BY_ERRNO: dict[int, tuple[type[CoreInfraError], str, str]] = {
    errno.ENOENT: (PathNotFoundError, "there is no such file or directory", ""),
    errno.EEXIST: (PathExistsError, "something is there already", "Delete it first."),
    errno.EISDIR: (PathIsDirectoryError, "it is a directory", ""),
    errno.ENOTDIR: (PathNotDirectoryError, "a file is where a directory is needed", ""),
    errno.ENOTEMPTY: (DirectoryNotEmptyError, "it is not empty", "Use delete_all."),
    errno.EBUSY: (StorageError, "others use it, or write into it without a pause", ""),
    errno.EINVAL: (InvalidPathError, "this path cannot be used so", ""),
    OUTSIDE: (OutsideSandboxError, "it leads out of the sandbox", ""),
    errno.ELOOP: (InvalidPathError, "its symbolic links go in a circle", ""),
    errno.ENXIO: (InvalidPathError, "it is a device, a pipe or a socket, and no file", ""),
    errno.ENAMETOOLONG: (InvalidPathError, "the name is too long", ""),
    errno.EACCES: (AccessDeniedError, "permission denied", "Change its owner or mode."),
    errno.EPERM: (AccessDeniedError, "operation not permitted", ""),
    errno.EROFS: (AccessDeniedError, "the file system is read-only", ""),
}


def path_error(code: int, action: str, path: StrPath, *, filename: str = "") -> CoreInfraError:
    """Make the error for one failed operation; the only place where codes become classes.

    Args:
        code: the errno that describes the situation.
        action: what was tried, as in "cannot *action* 'the/path'".
        path: the path as the caller gave it: the error's ``path``.
        filename: the path that the system saw, if it is another one: the error's ``filename``.

    Returns:
        The error, to be raised.
    """
    kind, why, todo = _BY_ERRNO.get(code) or (StorageError, os.strerror(code), "")
    facts: dict[str, object] = {"path": path, "filename": filename or path, "errno": abs(code)}
    if kind is DirectoryNotEmptyError:
        facts |= {"needed": "an empty directory", "found": "a directory with entries"}
    return kind(f"cannot {action} {filename or path!r}", why=why, todo=todo, **facts)
