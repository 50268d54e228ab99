"""Files and directories between this host and a machine, by any way in that runs commands."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core_infra.errors import CommandFailedError, InvalidError, NotFoundError
from core_infra.vm.guest import tree
from core_infra.vm.guest.files import base_name, file_mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm.access.access import GuestAccess, Running
    from core_infra.vm.guest.command import GuestProcess

_CHUNK = 1 << 16
# Into a file beside the target, so that the target is the old one or the new one.
_WRITE = """
[ -d "$1" ] && set -- "${1%/}/$3" "$2"
[ -d "$1" ] && { echo "$1 is a directory" >&2; exit 1; }
case $1 in */*) mkdir -p "${1%/*}/" || exit;; esac
part=$1.core-infra-$$
trap 'rm -f "$part"' EXIT
cat >"$part" && chmod "$2" "$part" && mv -f "$part" "$1"
"""
_REGULAR = "regular"


def push(access: GuestAccess, source: str, target: str) -> None:
    """Copy a file or a directory of this host into the machine.

    A file becomes *target*, or goes into it by its own name if *target* is a directory, or ends
    in ``/``. A directory's content goes into the directory *target*, which is made.

    Raises:
        NotFoundError: there is no *source*.
        CommandFailedError: the machine cannot write it; says why.
    """
    path = Path(source)
    if not path.exists():
        raise NotFoundError(f"there is no {path} to copy")
    mode = file_mode(path)
    if mode is None:
        with access.start(["/bin/sh", "-c", tree.unpack_command(target)]) as process:
            tree.send_tree(_as_guests(process), path)
            _finish(process, f"cannot copy {path} to {target}")
        return
    if target.endswith("/"):
        target += path.name
    with (
        path.open("rb") as file,
        access.start(
            ["/bin/sh", "-c", _WRITE, "sh", target, f"{mode & 0o777:o}", path.name]
        ) as process,
    ):
        while data := file.read(_CHUNK):
            process.send_input(data)
        process.close_stdin()
        _finish(process, f"cannot copy {path} to {target}")


def pull(access: GuestAccess, source: str, target: str) -> None:
    """Copy a file or a directory of the machine to this host.

    A file becomes *target*, or goes into it by its own name if *target* is a directory. A
    directory's content goes into the directory *target*, which is made; nothing is written
    outside it, whatever the machine sends.

    Raises:
        CommandFailedError: the machine cannot read it; says why.
        InvalidError: it is a device or the like; or this host cannot write it.
    """
    path = Path(target)
    what = f"cannot copy {source} to {path}"
    kind, _, mode = _told(access, ["stat", "-L", "-c", "%F|%a", source]).partition("|")
    if kind == "directory":
        with access.start(["/bin/sh", "-c", tree.pack_command(source)]) as process:
            process.close_stdin()
            said = tree.receive_tree(_as_guests(process), path)
            _require(process, what, said)
        return
    if kind and not kind.startswith(_REGULAR):
        raise InvalidError(what, why=f"it is no file and no directory, but a {kind}")
    if path.is_dir():
        path = path / base_name(source)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise InvalidError(what, why=str(error)) from error
    try:
        with os.fdopen(fd, "wb") as file, access.start(["cat", "--", source]) as process:
            process.close_stdin()
            errors = b""
            for stream, data in process.chunks():
                if stream == "stdout":
                    file.write(data)
                else:
                    errors += data
            _require(process, what, errors)
        if mode:
            Path(part).chmod(int(mode, 8) & 0o777)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _told(access: GuestAccess, argv: Sequence[str]) -> str:
    """What a command prints; nothing if it fails."""
    with access.start(argv) as process:
        process.close_stdin()
        said = b"".join(data for stream, data in process.chunks() if stream == "stdout")
        return said.decode("utf-8", "replace").strip() if process.wait() == 0 else ""


def _finish(process: Running, what: str) -> None:
    _require(process, what, b"".join(data for _, data in process.chunks()))


def _require(process: Running, what: str, said: bytes) -> None:
    code = process.wait()
    if code != 0:
        raise CommandFailedError(
            what,
            why=said.decode("utf-8", "replace").strip() or f"exit code {code}",
            command=[],
            exit_code=code,
            stdout=b"",
            stderr=said,
        )


def _as_guests(process: Running) -> GuestProcess:
    # A tree's functions use nothing of it that a Running has not.
    return cast("GuestProcess", process)
