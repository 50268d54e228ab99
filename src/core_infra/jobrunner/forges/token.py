"""A secret that nothing prints."""

from __future__ import annotations

import os
from pathlib import Path

from core_infra.errors import NotFoundError


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
