"""The system's errors as the library's."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING

from core_infra.errors import CoreInfraError
from core_infra.medium._errors import path_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

    from core_infra.medium._paths import StrPath


class RealFile(io.FileIO):
    """A file whose failures are the library's own.

    Args:
        file: the path, or a descriptor, which is closed with the file.
        mode: r, w or a.
        told: what :func:`translated` takes.
        opener: opens the path, as for the builtin open.
    """

    def __init__(
        self,
        file: str | int,
        mode: str,
        told: tuple[str, StrPath, str],
        *,
        opener: Callable[[str, int], int] | None = None,
    ) -> None:
        super().__init__(file, mode, opener=opener)
        self._told = told

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some."""
        with translated(*self._told):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        """Read the rest."""
        with translated(*self._told):
            return super().readall()

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some."""
        with translated(*self._told):
            return super().write(data)


@contextlib.contextmanager
def translated(action: str, path: StrPath, real: StrPath) -> Iterator[None]:
    """Turn an OSError into the library's error for the same situation.

    Args:
        action: what is tried, as in "cannot *action* 'the/path'".
        path: the path as the caller gave it.
        real: the path that the system sees.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, CoreInfraError) or error.errno is None:
            raise
        raise path_error(error.errno, action, path, filename=os.fspath(real)) from error
