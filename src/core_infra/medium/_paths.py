"""The form of a path, checked and made canonical the same way for every medium."""

from __future__ import annotations

import errno
import os
import posixpath

from core_infra.medium._errors import InvalidPathError, path_error

RESERVED = ".core-infra-tmp-"
"""How the names of unfinished files begin; no path of a user may have such a name."""

_NAME_MAX = 255
_PATH_MAX = 4095


StrPath = str | os.PathLike[str]
"""What names a file: text, or an object such as pathlib's that has a text."""


def clean(path: StrPath) -> str:
    """Take ``.``, ``..``, doubled and trailing slashes off, by looking at the text alone.

    ``a/../b`` is ``b`` whatever ``a`` is, so that a path means the same in every medium. A ``..``
    that is left over stays in front (``../b``); on an absolute path it is dropped, as by POSIX.

    Raises:
        InvalidPathError: the path is not text, is empty, has a NUL, a name of more than 255 bytes,
            a name that is reserved for unfinished files, or cannot be encoded.
    """
    if type(path) is not str:
        path = _text(path)
    if not path:
        raise _invalid(path, "it is empty", "Use '.' for the directory itself.")
    if "\0" in path:
        raise _invalid(path, "it has a NUL character in it")
    if RESERVED in path and any(name.startswith(RESERVED) for name in path.split("/")):
        raise _invalid(path, f"names that begin with {RESERVED!r} are for unfinished files")
    # An ASCII path this short has no name that is too long or cannot be encoded.
    if len(path) > _NAME_MAX or not path.isascii():
        _check_encoded(path)
    return posixpath.normpath(path)


def is_plain(name: str) -> bool:
    """Tell whether one name needs no cleaning: cheap, and not sure of every name that needs none.

    True for short printable ASCII names that begin with a digit, a letter or ``:;<=>?@[]^_`{|}~``.
    """
    return name > "/" and name.isprintable() and name.isascii() and len(name) <= _NAME_MAX


def not_root(cleaned: str, action: str, path: StrPath) -> str:
    """Give *cleaned* back unless it is the root (or a working directory), or above it.

    Raises:
        InvalidPathError: deleting or renaming the ground that one stands on.
    """
    if cleaned.strip("/") in {"", ".", ".."} or cleaned.endswith("/.."):
        raise _invalid(path, f"the root cannot be the one to {action}")
    return cleaned


def rooted(path: StrPath) -> str:
    """Clean a path of a medium that has a root of its own: relative to it, which is ``.``.

    Raises:
        InvalidPathError: as :func:`clean` does, and for a path that climbs above the root.
    """
    key = clean(path).lstrip("/") or "."
    if key == ".." or key.startswith("../"):
        raise _invalid(path, "it climbs above the root")
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
        raise _invalid(path, "it has a character that no file system takes") from error
    if len(encoded) > _PATH_MAX or max(map(len, encoded.split(b"/"))) > _NAME_MAX:
        raise path_error(errno.ENAMETOOLONG, "use the path", path)


def _invalid(path: object, why: str, todo: str = "") -> InvalidPathError:
    return InvalidPathError(f"cannot use the path {path!r}", why=why, todo=todo, path=path)
