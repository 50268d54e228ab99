"""Errors of paths and files, the same in every medium.

Each error derives from one of the library's kinds and, where Python has a builtin error for the
situation, from that as well: ``except FileNotFoundError`` works.
"""

from __future__ import annotations

import errno
import os

from core_infra.errors import (
    AlreadyExistsError,
    CoreInfraError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)

StrPath = str | os.PathLike[str]
"""A path: a string, or a path object such as pathlib's."""


class PathNotFoundError(NotFoundError, FileNotFoundError):
    """No file or directory exists at this path."""


class PathExistsError(AlreadyExistsError, FileExistsError):
    """A file or directory at this path must not be replaced."""


class PathIsDirectoryError(InvalidError, IsADirectoryError):
    """A directory is at this path, but a file is needed."""


class PathNotDirectoryError(InvalidError, NotADirectoryError):
    """A file is at this path, but a directory is needed."""


class InvalidPathError(InvalidError, ValueError):
    """The path is malformed, or not possible for this operation."""


class OutsideSandboxError(InvalidPathError):
    """A path leads out of a sandbox: by ``..``, as an absolute path, or through a link."""


class InvalidTextError(InvalidError, ValueError):
    """A file's bytes are not UTF-8, or a text cannot be written as UTF-8."""


class DirectoryNotEmptyError(WrongStateError, OSError):
    """The directory has entries, so it cannot be deleted by itself."""


class AccessDeniedError(UnavailableError, PermissionError):
    """The system denies the operation."""


class StorageError(UnavailableError, OSError):
    """The storage failed: disk full, I/O error, too many open files, across file systems."""


OUTSIDE = -errno.EXDEV
"""The code for leaving a sandbox; the kernel's EXDEV has other meanings as well."""

_BY_ERRNO: dict[int, tuple[type[CoreInfraError], str, str]] = {
    errno.ENOENT: (PathNotFoundError, "there is no such file or directory", ""),
    errno.EEXIST: (PathExistsError, "it already exists", "Delete it first."),
    errno.EISDIR: (PathIsDirectoryError, "it is a directory", ""),
    errno.ENOTDIR: (PathNotDirectoryError, "a file is where a directory is needed", ""),
    errno.ENOTEMPTY: (DirectoryNotEmptyError, "it is not empty", "Use delete_all."),
    errno.EBUSY: (StorageError, "it is in use, or other programs keep writing into it", ""),
    errno.EINVAL: (InvalidPathError, "the path is not possible here", ""),
    OUTSIDE: (OutsideSandboxError, "it leads out of the sandbox", ""),
    errno.ELOOP: (InvalidPathError, "its symbolic links form a circle", ""),
    errno.ENXIO: (InvalidPathError, "it is a device, a pipe or a socket, not a file", ""),
    errno.ENAMETOOLONG: (
        InvalidPathError,
        "the path or a name in it is too long",
        "",
    ),
    errno.EACCES: (AccessDeniedError, "permission denied", "Change its owner or mode."),
    errno.EPERM: (AccessDeniedError, "operation not permitted", ""),
    errno.EROFS: (AccessDeniedError, "the file system is read-only", ""),
}


_SHOWN = 200


def shown(path: object) -> str:
    """A path for a message: quoted, and shortened in its middle if it is very long."""
    text = repr(path)
    half = _SHOWN // 2
    return text if len(text) <= _SHOWN else f"{text[:half]}…{text[-half:]} ({len(text)} characters)"


def path_error(code: int, action: str, path: StrPath, *, filename: str = "") -> CoreInfraError:
    """Create the error for a failed operation; the only place that maps codes to classes.

    Args:
        code: the errno that describes the situation.
        action: the operation, as in "cannot *action* 'the/path'".
        path: the path as the caller gave it: the error's ``path``.
        filename: the path that the system saw, if it differs: the error's ``filename``.

    Returns:
        The error to raise.
    """
    kind, why, todo = _BY_ERRNO.get(code) or (StorageError, os.strerror(code), "")
    facts: dict[str, object] = {"path": path, "filename": filename or path, "errno": abs(code)}
    if kind is DirectoryNotEmptyError:
        facts |= {"needed": "an empty directory", "found": "a directory with entries"}
    return kind(f"cannot {action} {shown(filename or path)}", why=why, todo=todo, **facts)
