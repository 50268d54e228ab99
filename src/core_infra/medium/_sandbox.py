"""A directory of the real file system that no path leads out of."""

# Paths are strings here.
# ruff: noqa: PTH103

from __future__ import annotations

import contextlib
import os
import weakref
from typing import TYPE_CHECKING

from core_infra.errors import WrongStateError
from core_infra.medium._arguments import root_path
from core_infra.medium._beneath import kernel_can, open_by_kernel, open_by_walking
from core_infra.medium._errors import OUTSIDE, path_error
from core_infra.medium._paths import clean
from core_infra.medium._real import RealMedium
from core_infra.medium._real_file import map_os_errors

if TYPE_CHECKING:
    from core_infra.medium._errors import StrPath


class SandboxMedium(RealMedium):
    """The real files in one directory: nothing outside of it can be read or written.

    This holds for ``..``, absolute paths and links that lead out (even dangling ones), and if the
    tree changes during an operation: paths are not checked first and used later, the kernel itself
    opens them beneath the root. Links that stay inside work. An attempt to leave raises
    OutsideSandboxError. Hard links and mounts inside the directory count as inside.

    Writes are as atomic and durable as those of :class:`LocalMedium`.

    Args:
        root: the directory, created if it is missing. It is kept open: the sandbox stays in it even
            if it is renamed. A copied or pickled sandbox has the same directory; unpickling raises
            WrongStateError if the directory was replaced.
        by_kernel: whether the kernel resolves the paths; by default if it can. Otherwise they are
            walked by directory descriptors, slower, with the same results.

    Raises:
        InvalidPathError: *root* is malformed.
        PathNotDirectoryError: it is a file.
        AccessDeniedError: it may not be created or opened.
    """

    def __init__(self, root: str | os.PathLike[str], *, by_kernel: bool | None = None) -> None:
        self._root = root_path(root)
        with map_os_errors("make a sandbox of", root, self._root):
            with contextlib.suppress(FileExistsError):  # if it is not a directory, open raises
                os.makedirs(self._root)
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._hold(fd, by_kernel=kernel_can() if by_kernel is None else by_kernel)

    def _hold(self, fd: int, *, by_kernel: bool) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)
        self._by_kernel = by_kernel
        self._open_beneath = open_by_kernel if by_kernel else open_by_walking

    def __repr__(self) -> str:
        return f"SandboxMedium({self._root!r})"

    def __copy__(self) -> SandboxMedium:
        """Return a second sandbox of the same directory, with its own descriptor."""
        with map_os_errors("copy the sandbox of", self._root, self._root):
            return _holding(type(self), self._root, os.dup(self._fd), by_kernel=self._by_kernel)

    def __deepcopy__(self, memo: dict[int, object]) -> SandboxMedium:
        """Do the same as copy.copy: the directory itself is not copied."""
        return self.__copy__()

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the path and inode, with which another process can open the same directory."""
        with map_os_errors("pickle the sandbox of", self._root, self._root):
            held = os.fstat(self._fd)
        return _reopen, (type(self), self._root, (held.st_dev, held.st_ino), self._by_kernel)

    def _where(self, path: StrPath) -> str:
        where = clean(path)
        if where.startswith(("/", "../")) or where == "..":
            raise path_error(OUTSIDE, "use the path", path)
        return where

    def _open(self, where: str, flags: int) -> int:
        return self._open_beneath(self._fd, where, flags)

    def _filename(self, where: str) -> str:
        return self._root if where == "." else f"{self._root}/{where}"


def _holding(kind: type[SandboxMedium], root: str, fd: int, *, by_kernel: bool) -> SandboxMedium:
    """Make a sandbox of an open directory."""
    sandbox = kind.__new__(kind)
    sandbox._root = root  # noqa: SLF001 - what __init__ does, for a directory that is open
    sandbox._hold(fd, by_kernel=by_kernel)  # noqa: SLF001
    return sandbox


def _reopen(
    kind: type[SandboxMedium],
    root: str,
    identity: tuple[int, int],
    by_kernel: bool,  # noqa: FBT001 - pickle gives arguments by position
) -> SandboxMedium:
    """Open the directory of a pickled sandbox, which must still be the same directory.

    Raises:
        PathNotFoundError: it does not exist any more.
        WrongStateError: another directory has its name now.
    """
    with map_os_errors("reopen the sandbox of", root, root):
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sandbox = _holding(kind, root, fd, by_kernel=by_kernel)
    found = os.fstat(fd)
    if (found.st_dev, found.st_ino) != identity:
        raise WrongStateError(
            f"cannot reopen the sandbox of {root!r}",
            why="another directory has this name now",
            todo="Make a new SandboxMedium for the intended directory.",
            needed=f"inode {identity[1]} on device {identity[0]}",
            found=f"inode {found.st_ino} on device {found.st_dev}",
        )
    return sandbox
