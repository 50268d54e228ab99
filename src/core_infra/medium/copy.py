"""Copying between media."""

from __future__ import annotations

import posixpath
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_infra.medium.medium import Medium


def copy(source: Medium, path: str, target: Medium, to: str) -> None:
    """Copy a file, or a directory with all that is in it, from one medium to another or the same.

    Each file is streamed, keeps its mode, and appears whole. Files that *to* has already are
    replaced; others that are in the directory *to* stay.

    Raises:
        CoreInfraError: as reading *path* and writing *to* do.
    """
    info = source.stat(path)
    if info.is_dir:
        names = source.list(path)
        target.ensure_dir(to)
        for name in names:
            copy(source, posixpath.join(path, name), target, posixpath.join(to, name))
    else:
        with source.open(path) as reader, target.create(to, mode=info.mode) as writer:
            shutil.copyfileobj(reader, writer)
