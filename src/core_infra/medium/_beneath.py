"""Opens paths that must not leave a directory, in two ways with the same results.

On Linux 5.6 and newer the kernel does it (``openat2`` with ``RESOLVE_BENEATH``, see openat2(2)).
Elsewhere, and in containers that forbid this call, the path is walked by directory descriptors:
each name is opened without following links, and a link is replaced by its target.
"""

# The order of the system calls is the point.

from __future__ import annotations

import errno
import functools
import os
import stat
from typing import TYPE_CHECKING

from core_infra.medium._errors import OUTSIDE
from core_infra.medium._opening import identity_of, open_again

if TYPE_CHECKING:
    from collections.abc import Callable

_OPENAT2 = 437
_MACHINES = {"x86_64", "aarch64"}
"""Machines on which the system call has this number."""
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_LINKS = 40
"""How many links the kernel follows for one path."""
_OPEN = 32
"""The number of directories that are kept open at most."""

_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_PATH = getattr(os, "O_PATH", 0)


@functools.cache
def kernel_can() -> bool:
    """Whether openat2 can be used: the kernel has it, and no filter forbids it."""
    system = os.uname()
    if system.sysname != "Linux" or system.machine not in _MACHINES:
        return False
    here = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(open_by_kernel(here, ".", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        os.close(here)
    return True


def open_by_kernel(root: int, path: str, flags: int) -> int:
    """Open *path* beneath the directory *root*; the kernel makes sure that it stays there.

    Args:
        root: descriptor of the directory.
        path: relative to it; it may have ``..`` and links in it.
        flags: as for os.open.

    Raises:
        OSError: as os.open does; with the errno OUTSIDE if the path leads out of *root*.
    """
    call, name = _openat2(), os.fsencode(path)
    while (fd := call(root, name, flags)) < 0:
        code = -fd
        if code in {errno.EAGAIN, errno.ELOOP}:
            # EAGAIN: during a concurrent rename the kernel cannot verify a "..".
            # ELOOP: a loop, or a magic link of /proc, which leads out.
            return open_by_walking(root, path, flags)
        if code != errno.EINTR:
            raise _failed(OUTSIDE if code == errno.EXDEV else code)
    return fd


def open_by_walking(root: int, path: str, flags: int) -> int:
    """Do what :func:`open_by_kernel` does, one directory at a time."""
    trail = _Trail(root)
    todo = _names(path)
    try:
        for _ in range(_LINKS + 1):
            link = _follow(trail, todo, flags)
            if isinstance(link, int):
                return link
            todo = _names(link) + todo
        raise _failed(errno.ELOOP)
    finally:
        trail.close()


class _Trail:
    """The directories from the root to where a path has led so far, for ``..``.

    The last ones are kept open. Those above are opened again by ``..`` and must be the same: one
    descriptor for each level of a deep path would reach the process's limit.

    Args:
        root: descriptor of the first.
    """

    def __init__(self, root: int) -> None:
        self._fds = [os.dup(root)]
        self._above: list[tuple[int, int]] = []

    @property
    def here(self) -> int:
        """Descriptor of the last."""
        return self._fds[-1]

    def enter(self, directory: int) -> None:
        """Append a directory; its descriptor is owned from now on."""
        self._fds.append(directory)
        if len(self._fds) > _OPEN:
            self._above.append(identity_of(self._fds[0]))
            os.close(self._fds.pop(0))

    def leave(self) -> None:
        """Go back to the one before.

        Raises:
            OSError: OUTSIDE if there is none, ENOENT if it was moved.
        """
        if len(self._fds) == 1:
            if not self._above:
                raise _failed(OUTSIDE)
            self._fds.insert(0, open_again(self._above[-1], self.here, _STEP))
            self._above.pop()
        os.close(self._fds.pop())

    def close(self) -> None:
        """Release the descriptors."""
        while self._fds:
            os.close(self._fds.pop())


def _follow(trail: _Trail, todo: list[str], flags: int) -> int | str:
    """Open the names in *todo* one by one; return the open file at the end, or a link's target."""
    while True:
        name = todo.pop(0)
        if name == "..":
            trail.leave()
            name = "."
        try:
            return os.readlink(name, dir_fd=trail.here)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOENT}:
                raise
        try:
            if not todo:
                return _open_last(name, flags, trail.here)
            if name != ".":
                trail.enter(os.open(name, _STEP, dir_fd=trail.here))
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            todo.insert(0, name)  # it has just become a link


def _open_last(name: str, flags: int, directory: int) -> int:
    fd = os.open(name, flags | os.O_NOFOLLOW, 0o666, dir_fd=directory)
    # With O_PATH, the kernel opens the link itself.
    if flags & _O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise _failed(errno.ELOOP)
    return int(fd)


def _names(path: str) -> list[str]:
    if path.startswith("/"):
        raise _failed(OUTSIDE)
    # "file/" means a directory, as "file/." does.
    return [name or "." for name in path.split("/")]


def _failed(code: int) -> OSError:
    return OSError(code, "outside" if code == OUTSIDE else os.strerror(code))


@functools.cache
def _openat2() -> Callable[[int, bytes, int], int]:
    """The system call; the C library has no function for it."""
    import ctypes  # noqa: PLC0415 - only sandboxes need it

    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    syscall.argtypes = (
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
    )
    how_type = ctypes.c_uint64 * 3
    size = ctypes.sizeof(how_type)

    def call(root: int, path: bytes, flags: int) -> int:
        mode = 0o666 if flags & os.O_CREAT else 0
        how = how_type(flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
        fd = int(syscall(_OPENAT2, root, path, how, size))
        return fd if fd >= 0 else -ctypes.get_errno()

    return call
