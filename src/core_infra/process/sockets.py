"""UNIX sockets by any path."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from core_infra.process.real import os

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A short name of a UNIX socket, whatever its directory's: the kernel allows 107 bytes."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
