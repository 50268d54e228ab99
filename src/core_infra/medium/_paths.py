"""Checks paths and makes them canonical, the same way for every medium."""

from __future__ import annotations

import errno
import os
import posixpath

from core_infra.medium._errors import InvalidPathError, StrPath, path_error, shown

RESERVED = ".core-infra-tmp-"
"""The prefix of the names of unfinished files; reserved in paths of users."""

_NAME_MAX = 255
_PATH_MAX = 4095


def clean(path: StrPath) -> str:
    """Resolve ``.``, ``..``, doubled and trailing slashes textually.

    ``a/../b`` is ``b`` even if ``a`` is a link, so a path means the same in every medium. Remaining
    ``..`` stay in front (``../b``); in an absolute path they are dropped, as POSIX requires.

    Raises:
        InvalidPathError: the path is not text, is empty, contains a NUL, a name of more than 255
            bytes or one that is reserved for unfinished files, or cannot be encoded.
    """
    if type(path) is not str:
        path = _text(path)
    if not path:
        raise _invalid(path, "it is empty", "Use '.' for the directory itself.")
    if "\0" in path:
        raise _invalid(path, "it contains a NUL character")
    if RESERVED in path and any(name.startswith(RESERVED) for name in path.split("/")):
        raise _invalid(
            path, f"names that begin with {RESERVED!r} are reserved for unfinished files"
        )
    # In a short ASCII path no name is too long, and all can be encoded.
    if len(path) > _NAME_MAX or not path.isascii():
        _check_encoded(path)
    return posixpath.normpath(path)


def is_plain(name: str) -> bool:
    """Whether a single name needs no cleaning; a cheap check that may return False for some.

    True for short printable ASCII names that begin with a digit, a letter or ``:;<=>?@[]^_`{|}~``.
    """
    return name > "/" and name.isprintable() and name.isascii() and len(name) <= _NAME_MAX


def not_root(cleaned: str, action: str, path: StrPath) -> str:
    """Return *cleaned*, unless it is the root (or the working directory), or above it.

    Raises:
        InvalidPathError: it is; the root cannot be deleted or renamed.
    """
    if cleaned.strip("/") in {"", ".", ".."} or cleaned.endswith("/.."):
        raise _invalid(path, f"cannot {action} the root")
    return cleaned


def rooted(path: StrPath) -> str:
    """Return the canonical path for a medium that has its own root: relative to it, ``.`` for it.

    For authors of a :class:`~core_infra.medium.Medium`: it resolves ``.`` and ``..`` textually and
    removes doubled and trailing slashes.

    Raises:
        InvalidPathError: the path is malformed (not text, empty, with a NUL, with a name of more
            than 255 bytes or one that is reserved), or leads above the root.
    """
    key = clean(path).lstrip("/") or "."
    if key == ".." or key.startswith("../"):
        raise _invalid(path, "it leads above the root")
    return key


def _text(path: object) -> str:
    text = os.fspath(path) if isinstance(path, (str, bytes, os.PathLike)) else None
    if isinstance(text, str):
        return text
    todo = "Decode it with os.fsdecode." if isinstance(text, bytes) else ""
    kind = type(path).__name__
    raise _invalid(path, f"it must be a string or a path object, not {kind}", todo)


def _check_encoded(path: str) -> None:
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise _invalid(path, "it has a character that file systems do not accept") from error
    if len(encoded) > _PATH_MAX or max(map(len, encoded.split(b"/"))) > _NAME_MAX:
        raise path_error(errno.ENAMETOOLONG, "use the path", path)


def _invalid(path: object, why: str, todo: str = "") -> InvalidPathError:
    return InvalidPathError(f"cannot use the path {shown(path)}", why=why, todo=todo, path=path)
