"""The address of a forge and the token for it."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path
from typing import Protocol

from core_infra.errors import InvalidError, NotFoundError


class Secret(Protocol):
    """Something that has a token."""

    def read(self) -> str:
        """The token."""
        ...


class Token:
    """Where to find a token. It is read each time that it is used, so that it can be renewed.

    Give *env* or *file*. The token itself is not in the object, its repr, a log or a pickle.

    Args:
        env: the name of an environment variable.
        file: the path of a file that has only the token.
    """

    def __init__(self, *, env: str = "", file: str | os.PathLike[str] = "") -> None:
        self._env = env
        self._file = os.fspath(file)

    def __repr__(self) -> str:
        return f"Token(file={self._file!r})" if self._file else f"Token(env={self._env!r})"

    def read(self) -> str:
        """Read the token.

        Raises:
            NotFoundError: there is no token.
        """
        if not self._file:
            value = os.environ.get(self._env, "")
        else:
            try:
                value = Path(self._file).read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise self._missing(f"{self._file}: {type(error).__name__}") from None
        if not (value := value.strip()):
            raise self._missing(f"{self._file or self._env} is empty or not set")
        return value

    def _missing(self, why: str) -> NotFoundError:
        return NotFoundError("there is no token for the forge", why=why, todo="Put a token there.")


def checked_address(url: str) -> str:
    """Check the address of a forge, and return it.

    Raises:
        InvalidError: it is not of the form ``https://HOST``, or has credentials in it, which
            would appear in logs; the error does not repeat them.
    """
    if "@" in url:
        raise InvalidError(
            "the address of the forge has credentials in it",
            why="they would appear in logs and errors",
            todo="Put the token into token_env or token_file.",
        )
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is not a number
        usable = False
    if not usable:
        raise InvalidError(
            f"{url!r:.200} is not the address of a forge",
            todo="Give one such as https://git.example.org.",
        )
    return url
