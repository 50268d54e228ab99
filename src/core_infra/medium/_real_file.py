"""Maps errors of the operating system to the library's."""

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

    from core_infra.medium._errors import StrPath


class RealFile(io.FileIO):
    """A file whose operations raise the library's errors.

    Args:
        file: the path, or a descriptor, which is closed with the file.
        mode: r, w or a.
        context: the arguments of :func:`map_os_errors`.
        opener: opens the path, as for the builtin open.
    """

    def __init__(
        self,
        file: str | int,
        mode: str,
        context: tuple[str, StrPath, str],
        *,
        opener: Callable[[str, int], int] | None = None,
    ) -> None:
        super().__init__(file, mode, opener=opener)
        self._context = context

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into a buffer."""
        with map_os_errors(*self._context):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        """Read the rest."""
        with map_os_errors(*self._context):
            return super().readall()

    def write(self, data: ReadableBuffer, /) -> int:
        """Write a buffer."""
        with map_os_errors(*self._context):
            return super().write(data)


@contextlib.contextmanager
def map_os_errors(action: str, path: StrPath, real: StrPath) -> Iterator[None]:
    """Turn an OSError into the library's error for the same situation.

    Args:
        action: the operation, as in "cannot *action* 'the/path'".
        path: the path as the caller gave it.
        real: the path that the system sees.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, CoreInfraError) or error.errno is None:
            raise
        raise path_error(error.errno, action, path, filename=os.fspath(real)) from error
