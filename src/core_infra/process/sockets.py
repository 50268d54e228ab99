"""UNIX sockets by any path."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from core_infra.process.real import os

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LENGTH = 107
"""Bytes of a path that the kernel allows."""


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name of a UNIX socket that is short enough for the kernel, however long its directory's."""
    if len(os.fsencode(path)) <= _LENGTH:
        yield os.fspath(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
