"""A secret that nothing prints."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from core_infra.errors import InvalidError, NotFoundError


class Token:
    """Where a token is kept: it is read when it is used, so that it can be renewed.

    Give one of the two. It is not in the object: neither a repr, a log nor a pickle has it.

    Args:
        env: an environment variable.
        file: a file with nothing else in it.
    """

    def __init__(self, *, env: str = "", file: str | os.PathLike[str] = "") -> None:
        self._env = env
        self._file = os.fspath(file)

    def __repr__(self) -> str:
        return f"Token(file={self._file!r})" if self._file else f"Token(env={self._env!r})"

    def read(self) -> str:
        """The token.

        Raises:
            NotFoundError: there is none.
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
        return NotFoundError("there is no token for the forge", why=why, todo="Put one there.")


def checked(url: str) -> str:
    """The address itself, if a client can use it.

    Raises:
        InvalidError: it is not of the form ``https://HOST``, or has credentials in it, which
            would get into logs; the error does not repeat them.
    """
    if "@" in url:
        raise InvalidError(
            "the address of the forge has credentials in it",
            why="they would be in logs and errors",
            todo="Put the token into token_env or token_file.",
        )
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # as of a port that is no number
        usable = False
    if not usable:
        raise InvalidError(
            f"{url!r:.200} is not the address of a forge",
            todo="Give one such as https://git.example.org.",
        )
    return url
