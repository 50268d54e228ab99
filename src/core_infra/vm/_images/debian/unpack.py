"""Unpacks packages into a tree, as dpkg would.

Their own programs (``preinst``, ``postinst``) run later, in a machine.
"""

from __future__ import annotations

import io
import re
import stat
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

from core_infra._unpatched import os, subprocess
from core_infra._wording import count
from core_infra.errors import CommandFailedError
from core_infra.vm._free_space import no_room, says_full
from core_infra.vm._images.debian.database import Unpacked, add_database
from core_infra.vm._images.disk.tar_merge import TarMerger
from core_infra.vm._images.disk.tree import Node, directory, find_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from core_infra.vm._images.debian.apt import Deb

_MERGED = ("bin", "sbin", "lib")
_MERGED_64 = {"amd64": "lib64"}


def unpack(
    debs: Sequence[Deb], architecture: str, work: Path, progress: Callable[[str], None]
) -> Node:
    """Return the tree of a system whose packages are unpacked and not configured.

    Args:
        debs: the packages.
        architecture: Debian's name of it.
        work: a directory for files that the tree refers to.
        progress: called with a line of text before anything slow.

    Raises:
        InvalidError: a package is damaged, or two of them have the same file.
        CommandFailedError: dpkg-deb failed.
        UnavailableError, OSError: there is no room.
    """
    progress(f"unpacking {count(len(debs), 'package')}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        unpacked = list(pool.map(lambda deb: _unpacked(deb, work), debs))
    root = directory()
    for name in (*_MERGED, *filter(None, [_MERGED_64.get(architecture)])):
        _merge_usr(root, name)
    # A file that a package takes over from another one is its own, as with dpkg.
    last = sorted(unpacked, key=lambda one: bool(one.field("Replaces")))
    for one in last:
        _Package(root, one.archive, f"the package {one.name}").apply()
    add_database(root, unpacked)
    return root


class _Package(TarMerger):
    """The files of one package that are put on a tree."""

    def take(self, entry: tarfile.TarInfo, parts: list[bytes]) -> None:
        """Put an entry on the tree. As with dpkg, a link to a directory stays one."""
        if not (parts and entry.isdir() and self._links_to_directory(parts)):
            super().take(entry, parts)

    def _links_to_directory(self, parts: list[bytes]) -> bool:
        parent = find_directory(self.root, parts[:-1])
        found = None if parent is None else parent.entries.get(parts[-1])
        return found is not None and found.is_link and find_directory(self.root, parts) is not None


def _merge_usr(root: Node, name: str) -> None:
    """Make a directory of /usr and a link to it, which older packages take for granted."""
    usr = root.entries.setdefault(b"usr", directory())
    usr.entries.setdefault(name.encode(), directory())
    link = Node(stat.S_IFLNK | 0o777, target=f"usr/{name}".encode())
    root.entries.setdefault(name.encode(), link)


def _unpacked(deb: Deb, work: Path) -> Unpacked:
    archive = work / f"{deb.path.stem}.tar"
    control = io.BytesIO(_dpkg_deb("--ctrl-tarfile", deb, work, subprocess.PIPE))
    with archive.open("wb") as file:
        _dpkg_deb("--fsys-tarfile", deb, work, file)
    members = {}
    with tarfile.open(fileobj=control) as listed:
        for entry in listed:
            if entry.isreg() and (content := listed.extractfile(entry)) is not None:
                members[entry.name.removeprefix("./")] = content.read()
    text = members["control"].decode(errors="surrogateescape")
    return Unpacked(
        archive, members, dict(re.findall(r"^([A-Za-z-]+): *(.*)$", text, re.MULTILINE))
    )


def _dpkg_deb(how: str, deb: Deb, work: Path, output: int | IO[bytes]) -> bytes:
    command = ["dpkg-deb", how, str(deb.path)]
    english = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, env=english, stdout=output, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip()
        if says_full(why):
            raise no_room(f"the package {deb.name}", work)
        raise CommandFailedError(
            f"cannot unpack the package {deb.name} {deb.version}",
            why=why,
            command=command,
            exit_code=done.returncode,
        )
    return done.stdout or b""
