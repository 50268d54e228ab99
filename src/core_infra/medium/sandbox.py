"""A part of the real file system that nothing leads out of."""

# Paths are strings here.
# ruff: noqa: PTH100, PTH103

from __future__ import annotations

import contextlib
import os
import weakref

from core_infra.medium.beneath import kernel_can, open_by_kernel, open_by_walking
from core_infra.medium.errors import OUTSIDE, path_error
from core_infra.medium.paths import clean
from core_infra.medium.real import RealMedium
from core_infra.medium.realfile import translated


class SandboxMedium(RealMedium):
    """The real files beneath one directory: nothing outside it is read or written.

    Not by ``..``, an absolute path, a link in any place that leads out (wherever it points to,
    even to nothing), nor by a change of the tree between a check and its use: no path is
    checked and then used, each is opened beneath the root by the kernel itself. Links that stay
    inside work. Each attempt to leave is an OutsideSandboxError. Files that have a second name
    (hard link) or are mounted inside are inside.

    Writes are as atomic and durable as those of :class:`LocalMedium`.

    Args:
        root: the directory, made if it is missing. It is held open: the sandbox stays in it even
            if it is renamed.
        by_kernel: whether the kernel is to resolve the paths; by default if it can. Otherwise they
            are walked by directory descriptors, with the same answers, slower.

    Raises:
        PathNotDirectoryError: *root* is a file.
        AccessDeniedError: it may not be made or opened.
    """

    def __init__(self, root: str | os.PathLike[str], *, by_kernel: bool | None = None) -> None:
        path = os.fspath(root)
        self._root = os.path.abspath(clean(path))
        with translated("make a sandbox of", path, self._root):
            with contextlib.suppress(FileExistsError):  # by what, the next line tells
                os.makedirs(self._root)
            self._fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._fd)
        by_kernel = kernel_can() if by_kernel is None else by_kernel
        self._open_beneath = open_by_kernel if by_kernel else open_by_walking

    def __repr__(self) -> str:
        return f"SandboxMedium({self._root!r})"

    def _where(self, path: str) -> str:
        where = clean(path)
        if where.startswith(("/", "../")) or where == "..":
            raise path_error(OUTSIDE, "use the path", path)
        return where

    def _open(self, where: str, flags: int) -> int:
        return self._open_beneath(self._fd, where, flags)

    def _filename(self, where: str) -> str:
        return self._root if where == "." else f"{self._root}/{where}"
