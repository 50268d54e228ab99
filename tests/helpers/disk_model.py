"""A disk that has crashed: what may be on it, given the system calls made before.

The model is pessimistic. Content is on the disk for sure only after fsync of the file; before,
any prefix of it may be there, or zeros in its place. A directory's names are there for sure only
after fsync of the directory; before, each change of a name may be there or not, whatever the
order. One change of a name is never half done.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Call(NamedTuple):
    """One system call.

    ``create`` inode directory name; ``mkdir`` inode directory name; ``write`` inode data;
    ``sync`` inode; ``rename`` directory old new; ``unlink`` directory name.
    """

    what: str
    inode: int
    args: tuple[object, ...] = ()


Names = dict[tuple[int, str], int]
"""The inode of each name in each directory."""


class Disk:
    """What is certain and what is not, after some calls.

    Args:
        names: what is certain from the beginning; the root is inode 0.
        contents: as well.
    """

    def __init__(self, names: Names, contents: dict[int, bytes]) -> None:
        self.certain_names = dict(names)
        self.certain_contents = dict(contents)
        self.now = dict(names)
        self.written = dict(contents)
        self.changes: list[tuple[int, Names, list[tuple[int, str]]]] = []

    def call(self, call: Call) -> None:
        """Make a call."""
        if call.what == "write":
            self.written[call.inode] = self.written.get(call.inode, b"") + bytes(call.args[0])  # type: ignore[call-overload]
        elif call.what == "sync":
            self.sync(call.inode)
        else:
            self.change(call)

    def sync(self, inode: int) -> None:
        if inode in self.written:
            self.certain_contents[inode] = self.written[inode]
        for directory, put, gone in self.changes:
            if directory == inode:
                apply(self.certain_names, put, gone)
        self.changes = [change for change in self.changes if change[0] != inode]

    def change(self, call: Call) -> None:
        put: Names = {}
        gone: list[tuple[int, str]] = []
        if call.what in {"create", "mkdir"}:
            directory, name = call.args
            put[int(directory), str(name)] = call.inode  # type: ignore[call-overload]
            if call.what == "create":
                self.written.setdefault(call.inode, b"")
        else:
            directory = call.inode
            old = (directory, str(call.args[0]))
            gone = [old]
            if call.what == "rename":
                put[directory, str(call.args[1])] = self.now[old]
        apply(self.now, put, gone)
        self.changes.append((int(directory), put, gone))  # type: ignore[call-overload]

    def states(self) -> Iterator[dict[str, bytes | None]]:
        """Every tree that may be found: the content of each path, None for a directory."""
        for kept in itertools.product([True, False], repeat=len(self.changes)):
            names = dict(self.certain_names)
            for (_, put, gone), there in zip(self.changes, kept, strict=True):
                if there:
                    apply(names, put, gone)
            uncertain = [
                inode
                for inode in set(names.values()) & self.written.keys()
                if self.certain_contents.get(inode) != self.written[inode]
            ]
            for torn in itertools.product(*(list(self.torn(inode)) for inode in uncertain)):
                contents = self.certain_contents | dict(zip(uncertain, torn, strict=True))
                yield dict(tree(names, contents, 0, ""))

    def torn(self, inode: int) -> Iterator[bytes]:
        before, after = self.certain_contents.get(inode, b""), self.written[inode]
        yield before
        yield after
        for cut in range(len(after)):
            yield after[:cut]
            yield after[:cut] + bytes(len(after) - cut)


def apply(names: Names, put: Names, gone: list[tuple[int, str]]) -> None:
    for key in gone:
        names.pop(key, None)
    names.update(put)


def tree(
    names: Names, contents: dict[int, bytes], directory: int, path: str
) -> Iterator[tuple[str, bytes | None]]:
    for (above, name), inode in names.items():
        if above == directory:
            yield path + name, contents.get(inode)
            yield from tree(names, contents, inode, f"{path}{name}/")
