"""Directories of this host in a machine.

Two ways, by what the guest's kernel can be expected to have: the default image's and those of
distributions have virtiofs, and many of them no 9p; LinuxKit's have 9p, which needs no other
program here, and serves disks where virtiofs cannot be served.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import CommandFailedError, InvalidError, NotFoundError, UnavailableError
from core_infra.process.child import spawn
from core_infra.vm.hypervisors.hosted import Share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core_infra.process.child import Child
    from core_infra.vm.access.access import GuestAccess
    from core_infra.vm.manager.folder import Folder

_PLACES = ("/usr/libexec", "/usr/lib/qemu", "/usr/lib/virtiofsd", "/usr/libexec/virtiofsd")
_CAP_SYS_ADMIN = 1 << 21
_MOUNT_POINT = 4  # among the fields of mountinfo, proc(5)
_OPTIONS = {"9p": "trans=virtio,version=9p2000.L,msize=262144", "virtiofs": "rw"}


def shares(volumes: Mapping[str, str], *, by_virtiofs: bool) -> list[Share]:
    """What the hypervisor shares.

    Args:
        volumes: directories of this host, each with its place in the guest.
        by_virtiofs: the guest knows virtiofs, and not 9p.

    Raises:
        NotFoundError: there is no such directory.
        InvalidError: a place in the guest is not possible, or asked for twice.
    """
    found = []
    taken = {"/"}
    for number, (path, place) in enumerate(volumes.items()):
        if not place.startswith("/"):
            raise InvalidError(
                f"cannot mount {path} at {place!r} in the machine",
                why="that is relative",
                todo="Begin it with '/'.",
            )
        if (normal := posixpath.normpath(place)) in taken:
            raise InvalidError(
                f"cannot mount {path} at {place!r} in the machine",
                why="it would hide all that is there",
            )
        taken.add(normal)
        source = Path(path).expanduser().absolute()
        if not source.is_dir():
            raise NotFoundError(f"there is no directory {source} to share with the machine")
        found.append(Share(_tag(number), source, by_virtiofs))
    return found


def serve(share: Share, folder: Folder, *, die_with_parent: bool) -> Child:
    """Start the program that serves a directory by virtiofs; it ends with the machine.

    Raises:
        UnavailableError: it is not installed.
    """
    # By a link: not every virtiofsd has a way to write a comma. With a dot, the link is followed.
    link = folder.path / share.tag
    link.symlink_to(share.path)
    source = str(link).replace("\\", "\\\\").replace(",", "\\,")
    with folder.listen(share.tag) as server, folder.hypervisor_log.open("ab") as log:
        options = f"source={source}/.,sandbox={_sandbox()}"
        return spawn(
            [_program(), f"--fd={server.fileno()}", "-o", options],
            output=log,
            pass_fds=[server.fileno()],
            die_with_parent=die_with_parent,
        )


def mount(access: GuestAccess, found: Sequence[Share], places: Sequence[str]) -> None:
    """Mount the directories in the guest.

    Raises:
        CommandFailedError: the guest could not; says why.
    """
    for share, place in zip(found, places, strict=True):
        where = shlex.quote(place)
        options = _OPTIONS[share.type]
        line = f"mkdir -p {where} && mount -t {share.type} -o {options} {share.tag} {where}"
        with access.start(["/bin/sh", "-c", line]) as process:
            process.close_stdin()
            said = b"".join(data for _, data in process.chunks())
        if process.exit_code != 0:
            raise CommandFailedError(
                f"the machine cannot mount {share.path} at {place}",
                why=said.decode("utf-8", "replace").strip() or f"no {share.type} in its kernel?",
                command=[line],
                exit_code=process.exit_code,
                stdout=said,
                stderr=b"",
            )


def _tag(number: int) -> str:
    return f"volume{number}"


def _sandbox() -> str:
    """How virtiofsd locks itself into the directory.

    By mounts of its own, if it can: not without the right to mount, as in many a container, nor in
    a chroot, whose root is nothing that is mounted.
    """
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    rights = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    may_mount = os.geteuid() != 0 or (rights and int(rights[1], 16) & _CAP_SYS_ADMIN)
    is_mounted = any(mount.split()[_MOUNT_POINT] == "/" for mount in mounts)
    return "namespace" if may_mount and is_mounted else "chroot"


def is_served(folder: Folder) -> bool:
    """Whether a machine's directories are served by virtiofs."""
    return folder.line(_tag(0)).exists()


def can_serve() -> bool:
    """Whether virtiofsd is there, and works for this user: QEMU's own did for root only."""
    found = _find_program()
    return found is not None and (os.geteuid() == 0 or not found.startswith("/usr/lib/qemu/"))


def _find_program() -> str | None:
    return shutil.which("virtiofsd") or shutil.which("virtiofsd", path=":".join(_PLACES))


def _program() -> str:
    found = _find_program()
    if found is None:
        raise UnavailableError(
            "cannot share a directory with this machine",
            why="its kernel needs virtiofs, and virtiofsd is not installed",
            todo="Install it: apt-get install virtiofsd, or (Debian 12) qemu-system-common",
        )
    return found
