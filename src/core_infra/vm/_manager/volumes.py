"""Volumes: directories and files of this host in a machine.

The kind of file system depends on the guest's kernel. The default image's kernel and those of
distributions have virtiofs, but many of them lack 9p. LinuxKit's have 9p, which needs no other
program on this host; disks get it, too, if virtiofsd is not available.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.errors import CommandFailedError, InvalidError, NotFoundError, UnavailableError
from core_infra.process._child import spawn
from core_infra.vm._hypervisors.hypervisor import Share

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.process._child import Child
    from core_infra.vm._access.interface import GuestAccess
    from core_infra.vm._manager.machine_directory import MachineDirectory
    from core_infra.vm._manager.record import Volume

_PLACES = ("/usr/libexec", "/usr/lib/qemu", "/usr/lib/virtiofsd", "/usr/libexec/virtiofsd")
_CAP_SYS_ADMIN = 1 << 21
_MOUNT_POINT = 4  # among the fields of mountinfo, proc(5)
_OPTIONS = {"9p": ",trans=virtio,version=9p2000.L,msize=262144", "virtiofs": ""}
_REMEDY = (
    "On Debian 13 and newer: apt-get install virtiofsd. On Debian 12 it is in qemu-system-common, "
    "and works for root only. Without it, core-infra vm cp copies files."
)
# $0 is this text, for sudo. Five arguments for each volume: its tag, type, options, path in the
# guest, and the name of its file. A file is bind-mounted from a directory in /run.
_MOUNT = """
mounted() {
    while read -r device rest; do [ "$device" = "$1" ] && return; done </proc/mounts
    return 1
}
missing() {
    while [ "$#" -gt 4 ]; do
        mounted "$1" || return 0
        shift 5
    done
    return 1
}
volume() {
    at=$4
    [ -z "$5" ] || at=/run/core-infra/$1
    mkdir -p "$at" && mount -t "$2" -o "$3" "$1" "$at" || return
    [ "$5" ] || return 0
    mkdir -p "${4%/*}/" || return
    [ -e "$4" ] || : >"$4" || return
    mount --bind "$at/$5" "$4"
}
missing "$@" || exit 0
[ "$(id -u)" = 0 ] || exec sudo -n /bin/sh -c "$0" "$0" "$@"
while [ "$#" -gt 4 ]; do
    if ! mounted "$1" && ! volume "$@"; then
        echo "$4 could not be mounted" >&2
        exit 1
    fi
    shift 5
done
"""


def shares(volumes: Sequence[Volume], *, by_virtiofs: bool) -> list[Share]:
    """The directories that the hypervisor shares for these volumes.

    Args:
        volumes: directories and files of this host, each with its path in the guest.
        by_virtiofs: whether the guest has virtiofs; otherwise it has 9p.

    Raises:
        NotFoundError: a directory or file does not exist.
        InvalidError: a path in the guest is not possible, or is used twice.
    """
    found = []
    taken = {"/"}
    for number, volume in enumerate(volumes):
        what = f"cannot mount {volume.path} at {volume.place!r} in the machine"
        if not volume.place.startswith("/"):
            raise InvalidError(what, why="that is relative", todo="Begin it with '/'.")
        if (normal := posixpath.normpath(volume.place)) in taken:
            raise InvalidError(what, why="it would hide all that is there")
        taken.add(normal)
        source = Path(volume.path).expanduser().absolute()
        if not source.exists():
            raise NotFoundError(
                f"there is no directory {source} to share with the machine, and no file"
            )
        if not source.is_dir() and not source.is_file():
            raise InvalidError(what, why="it is neither a directory nor a regular file")
        name = "" if source.is_dir() else source.resolve().name
        found.append(Share(_tag(number), source, by_virtiofs, volume.read_only, name))
    return found


def served_share(
    share: Share, directory: MachineDirectory, progress: Callable[[str], None]
) -> Share:
    """The share as it is served: a file gets a directory of its own, if it can be linked."""
    if not share.file:
        return share
    shared = directory.path / f"{share.tag}.file"
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir()
    source = share.path.resolve()
    try:
        (shared / share.file).hardlink_to(source)
    except OSError:  # another file system, or another user's file
        progress(f"root of the machine can reach all of {source.parent}, not only {source.name}")
        shared = source.parent
    return replace(share, path=shared)


def serve(share: Share, directory: MachineDirectory, *, die_with_parent: bool) -> Child:
    """Start virtiofsd for a directory; it ends with the machine.

    Raises:
        UnavailableError: it is not installed, or works for root only.
    """
    # By a link, as some versions of virtiofsd cannot quote a comma. "/." follows the link.
    program = _program()
    link = directory.path / share.tag
    link.unlink(missing_ok=True)
    link.symlink_to(share.path)
    source = str(link).replace("\\", "\\\\").replace(",", "\\,")
    with directory.listen(share.tag) as server, directory.hypervisor_log.open("ab") as log:
        options = f"source={source}/.,sandbox={_sandbox()}"
        more = ["--readonly"] if share.read_only and _knows_readonly(program) else []
        return spawn(
            [program, f"--fd={server.fileno()}", "-o", options, *more],
            output=log,
            pass_fds=[server.fileno()],
            die_with_parent=die_with_parent,
        )


def require_running(servers: Sequence[Child], directory: MachineDirectory) -> None:
    """Raise UnavailableError if one of the virtiofsd has ended."""
    if any(not server.is_running() for server in servers):
        raise UnavailableError(
            "cannot share a directory with this machine",
            why=f"virtiofsd has ended: {directory.last_log_lines()}",
            todo=_REMEDY,
        )


def mount_command(found: Sequence[Share], volumes: Sequence[Volume]) -> list[str]:
    """The command of the guest that mounts missing volumes; empty without volumes."""
    if not found:
        return []
    facts = [
        fact
        for share, volume in zip(found, volumes, strict=True)
        for fact in (
            share.tag,
            share.type,
            f"{'ro' if share.read_only else 'rw'}{_OPTIONS[share.type]}",
            volume.place,
            share.file,
        )
    ]
    return ["/bin/sh", "-c", _MOUNT, _MOUNT, *facts]


def mount(access: GuestAccess, found: Sequence[Share], volumes: Sequence[Volume]) -> None:
    """Mount missing volumes in the guest.

    Raises:
        CommandFailedError: the guest could not mount one; says why.
    """
    command = mount_command(found, volumes)
    with access.start(command) as process:
        process.close_stdin()
        output = b"".join(data for _, data in process.chunks())
    if process.exit_code != 0:
        kind = found[0].type
        raise CommandFailedError(
            "the machine cannot mount its volumes",
            why=output.decode("utf-8", "replace").strip() or f"no {kind} in its kernel?",
            todo="Only root can mount there, or a user with sudo without a password. By hand: "
            f"mount -t {kind} {found[0].tag} {volumes[0].place}",
            command=command[:2],
            exit_code=process.exit_code,
            stdout=output,
            stderr=b"",
        )


def _tag(number: int) -> str:
    return f"volume{number}"


def _sandbox() -> str:
    """The way in which virtiofsd confines itself to the directory.

    A mount namespace, if possible: that needs the right to mount, which many containers lack, and
    does not work in a chroot, whose root is not a mount point.
    """
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    rights = re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    may_mount = os.geteuid() != 0 or (rights and int(rights[1], 16) & _CAP_SYS_ADMIN)
    is_mounted = any(mount.split()[_MOUNT_POINT] == "/" for mount in mounts)
    return "namespace" if may_mount and is_mounted else "chroot"


def is_served(directory: MachineDirectory) -> bool:
    """Whether a machine's volumes are served by virtiofs."""
    return directory.socket_path(_tag(0)).exists()


def can_serve() -> bool:
    """Whether virtiofsd is installed and works for this user: QEMU's own works for root only."""
    found = _find_program()
    return found is not None and (os.geteuid() == 0 or not found.startswith("/usr/lib/qemu/"))


def _find_program() -> str | None:
    return shutil.which("virtiofsd") or shutil.which("virtiofsd", path=":".join(_PLACES))


def _program() -> str:
    found = _find_program()
    if found is not None and can_serve():
        return found
    raise UnavailableError(
        "cannot share a directory with this machine",
        why="its kernel needs virtiofs, and "
        + (f"{found} works for root only" if found else "virtiofsd is not installed"),
        todo=_REMEDY,
    )


@functools.cache
def _knows_readonly(program: str) -> bool:
    output = subprocess.run(
        [program, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    return "--readonly" in output.stdout + output.stderr
