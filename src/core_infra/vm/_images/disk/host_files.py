"""Reads directories of this host as a tree, without copying the content of files."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from core_infra.vm._images.disk.tree import Node, Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

_OTHERS_READ, _OTHERS_ENTER = 0o004, 0o005
_NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES)
_ACCESS_LIST = b"system.posix_acl_access"
_ATTRIBUTES = ("security.capability", _ACCESS_LIST.decode(), "system.posix_acl_default")


@dataclass
class HostFiles:
    """Files of this host as a tree.

    Attributes:
        root: the directory; its nodes refer to the host's files.
        left_out: the paths that are not in the tree, each with the reason.
        read: bytes of all files.
        digest: of all names, owners, modes, sizes and times: it changes with the content.
    """

    root: Node
    left_out: dict[str, str] = field(default_factory=dict)
    read: int = 0
    digest: str = ""


def read_host_files(
    top: Path,
    *,
    public: bool = False,
    skip: Callable[[bytes], str] = lambda _path: "",
    mounted: Collection[bytes] = (),
) -> HostFiles:
    """Return the files below a directory.

    Args:
        top: the directory.
        public: leave out what not every user may read, also if the caller may.
        skip: returns why a path, relative to *top*, is left out; empty if it is not.
        mounted: directories that may be on another file system than the one above them.

    Raises:
        OSError: the directory cannot be read.
    """
    found = HostFiles(_node(top.stat()))
    _Reader(os.fsencode(top), found, public=public, skip=skip, mounted=mounted).read()
    return found


class _Reader:
    def __init__(
        self,
        top: bytes,
        found: HostFiles,
        *,
        public: bool,
        skip: Callable[[bytes], str],
        mounted: Collection[bytes],
    ) -> None:
        self._top = top
        self._found = found
        self._public = public
        self._skip = skip
        self._mounts = _mounts(top) - set(mounted)
        self._linked: dict[tuple[int, int], Node] = {}
        self._total = hashlib.sha256()

    def read(self) -> None:
        waiting = [(b"", self._found.root)]
        while waiting:
            place, node = waiting.pop()
            try:
                with os.scandir(os.path.join(self._top, place)) as entries:  # noqa: PTH118 - bytes
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._leave_out(place, error.strerror or str(error))
                continue
            for entry in listed:
                path = place + b"/" + entry.name if place else entry.name
                child = self._child(path, entry)
                if child is not None:
                    node.entries[entry.name] = child
                    if child.is_dir:
                        waiting.append((path, child))
        self._found.digest = self._total.hexdigest()

    def _child(self, path: bytes, entry: os.DirEntry[bytes]) -> Node | None:
        try:
            status = entry.stat(follow_symlinks=False)
            if why := self._skip(path) or self._why_not(path, status, entry):
                self._leave_out(path, why)
                return None
            if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                node = self._linked.setdefault((status.st_dev, status.st_ino), _node(status))
            else:
                node = _node(status)
            if node.is_link:
                node.target = os.readlink(entry.path)  # noqa: PTH115 - bytes
            elif node.is_file and not node.pieces and status.st_size:
                node.size = status.st_size
                source = os.fsdecode(entry.path)
                same = (status.st_dev, status.st_ino, status.st_mode) if self._public else None
                node.pieces = (Piece(0, status.st_size, source=source, facts=same),)
                self._found.read += status.st_size
            if not node.is_link:
                node.xattrs = _xattrs(entry.path)
                if _ACCESS_LIST in node.xattrs and not os.access(entry.path, os.R_OK):
                    self._leave_out(path, os.strerror(errno.EACCES))  # as the list says
                    return None
        except OSError as error:  # it was removed meanwhile, or cannot be read
            self._leave_out(path, error.strerror or str(error))
            return None
        facts = (path, node.mode, node.uid, node.gid, status.st_size, status.st_mtime_ns)
        self._total.update(repr((*facts, node.target, node.xattrs)).encode())
        return node

    def _why_not(self, path: bytes, status: os.stat_result, entry: os.DirEntry[bytes]) -> str:
        """Return why a file is left out; empty if it is not."""
        mode = status.st_mode
        if path in self._mounts:
            return "another file system is mounted there"
        if stat.S_ISLNK(mode):
            return ""
        if stat.S_ISDIR(mode):
            secret = self._public and mode & _OTHERS_ENTER != _OTHERS_ENTER
            return "not every user may read it" if secret else ""
        if not stat.S_ISREG(mode):
            return "it is a device, a socket or a pipe"
        if self._public and not mode & _OTHERS_READ:
            return "not every user may read it"
        readable = mode & _OTHERS_READ or os.access(entry.path, os.R_OK)
        return "" if readable else os.strerror(errno.EACCES)

    def _leave_out(self, path: bytes, why: str) -> None:
        self._found.left_out[os.fsdecode(path)] = why


def _node(status: os.stat_result) -> Node:
    return Node(
        status.st_mode, uid=status.st_uid, gid=status.st_gid, mtime=status.st_mtime_ns // 10**9
    )


def _mounts(top: bytes) -> set[bytes]:
    """Return what is mounted below a directory: also single files, and parts of the same disk."""
    places = (os.fsencode(one.mountpoint) for one in psutil.disk_partitions(all=True))
    above = os.path.realpath(top).rstrip(b"/") + b"/"
    return {place.removeprefix(above) for place in places if place.startswith(above)}


def _xattrs(path: bytes) -> dict[bytes, bytes]:
    """Return the attributes of a file that mean something on another system."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {
            name.encode(): os.getxattr(path, name, follow_symlinks=False)
            for name in names
            if name in _ATTRIBUTES or name.startswith("user.")
        }
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return {}
        raise
