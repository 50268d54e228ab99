"""Files and directories between this host and a machine, by any way in that runs commands."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core_infra.errors import CommandFailedError, NotFoundError
from core_infra.vm.guest import tree
from core_infra.vm.guest.files import base_name, file_mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm.access.access import GuestAccess, Running
    from core_infra.vm.guest.command import GuestProcess

_CHUNK = 1 << 16
# Into a file beside the target, so that the target is the old one or the new one.
_WRITE = (
    'case $1 in */*) mkdir -p "${1%/*}/";; esac && '
    'cat >"$1.core-infra" && chmod "$2" "$1.core-infra" && mv -f "$1.core-infra" "$1"'
)


def push(access: GuestAccess, source: str, target: str) -> None:
    """Copy a file or a directory of this host into the machine.

    A file becomes *target*, or goes into it by its own name if *target* ends in ``/``. A
    directory's content goes into the directory *target*, which is made.

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
        access.start(["/bin/sh", "-c", _WRITE, "sh", target, f"{mode & 0o777:o}"]) as process,
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
    """
    path = Path(target)
    what = f"cannot copy {source} to {path}"
    if _succeeds(access, ["test", "-d", source]):
        with access.start(["/bin/sh", "-c", tree.pack_command(source)]) as process:
            process.close_stdin()
            said = tree.receive_tree(_as_guests(process), path)
            _require(process, what, said)
        return
    if path.is_dir():
        path = path / base_name(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
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
        executable = _succeeds(access, ["test", "-x", source])
        umask = os.umask(0)
        os.umask(umask)
        Path(part).chmod((0o777 if executable else 0o666) & ~umask)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _succeeds(access: GuestAccess, argv: Sequence[str]) -> bool:
    with access.start(argv) as process:
        process.close_stdin()
        return process.wait() == 0


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
