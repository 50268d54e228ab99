"""Why a program could not be started: the system's errno names only a kind of reason."""

from __future__ import annotations

import contextlib
import errno
import stat
import struct
import sys
from typing import TYPE_CHECKING

from core_infra._unpatched import Path, os
from core_infra.process._errors import CannotStartError, ProgramNotFoundError

if TYPE_CHECKING:
    from core_infra.process._options import RunOptions

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"  # the reaper's
_HEAD = 4096  # bytes of a file that are read
_MAX_PAGES = 32  # of one argument: MAX_ARG_STRLEN
_MAX_DEPTH = 4  # of interpreters of interpreters, as in the kernel
_MACHINE = slice(18, 20)  # in an ELF header
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH

# The ELF format, by its class, 32 or 64 bits: of the file's header, where the program headers are,
# how large and how many; of a program header, its type, and the offset and length of its data.
_ELF = {1: ("28xI10xHH", "II8xI"), 2: ("32xQ14xHH", "I4xQ16xQ")}
_BYTE_ORDER = {1: "<", 2: ">"}
_PT_INTERP = 3
_PATH_MAX = 4096


def start_error(
    options: RunOptions, cause: OSError, *, in_directory: bool
) -> ProgramNotFoundError | CannotStartError:
    """Make the error to raise when the system refuses to start a program.

    Args:
        options: the program.
        cause: the system's error.
        in_directory: it was about the working directory.
    """
    what = f"cannot start {options.argv()[0]!r}"
    why = cause.strerror or str(cause)
    found = ""
    if in_directory:
        why += f": its directory {os.fspath(options.dir or '.')!r}"
    elif cause.filename is not None and options.log is not None:
        why = f"its log {os.fspath(options.log)!r} cannot be written: {why}"
        return CannotStartError(what, why=why, errno=cause.errno)
    elif found := _explain(options, cause.errno or 0):
        why += f": {found}"
    if cause.errno in (errno.ENOENT, errno.ENOTDIR):
        todo = "" if in_directory or found else "Is it installed, and on the PATH that it is given?"
        return ProgramNotFoundError(what, why=why, todo=todo, errno=cause.errno)
    return CannotStartError(what, why=why, errno=cause.errno)


def _explain(options: RunOptions, error: int) -> str:
    """The actual reason, if it is not simply the program's name; else an empty string."""
    if error == errno.EBADF:
        closed = [fd for fd in options.pass_fds if not _is_open(fd)]
        return f"pass_fds has {closed}, not open here" if closed else ""
    if error == errno.E2BIG:
        return _too_long(options)
    here = Path(options.directory())
    for path in _candidates(options, here):
        with contextlib.suppress(OSError):
            if path.exists() and (why := _inspect(path, here, error, _MAX_DEPTH)):
                return why
    return ""


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _too_long(options: RunOptions) -> str:
    """The argument or variable that is too long by itself; empty if only their sum is."""
    limit = _MAX_PAGES * os.sysconf("SC_PAGESIZE")
    sizes = {f"argument {at}": word for at, word in enumerate(options.argv())}
    sizes |= {f"variable {name}": f"{name}={value or ''}" for name, value in options.env.items()}
    for name, text in sizes.items():
        if len(os.fsencode(text)) >= limit:
            return f"{name} has {len(os.fsencode(text))} bytes, and the system takes {limit - 1}"
    return ""


def _inspect(path: Path, here: Path, error: int, depth: int) -> str:
    if error == errno.EACCES and (why := _not_permitted(path)):
        return why
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"#!"):
        if not depth:
            return f"{path} is a script for a script for a script …, deeper than the system goes"
        return _inspect_script(path, head, here, error, depth)
    if head.startswith(b"\x7fELF"):
        return _inspect_elf(path, head, error)
    if error == errno.ENOEXEC:
        return f"{path} is neither a program nor a script that begins with #!"
    return ""


def _not_permitted(path: Path) -> str:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return f"{path} is a directory"
    if not mode & _EXECUTABLE:
        return f"{path} is not executable"
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return f"{path} is on a file system mounted noexec"
    return ""


def _inspect_script(path: Path, head: bytes, here: Path, error: int, depth: int) -> str:
    line = head[2:].partition(b"\n")[0]
    words = line.split(maxsplit=1)
    if not words:
        return f"{path} names no interpreter after #!"
    name = os.fsdecode(words[0])
    if line.endswith(b"\r"):
        return f"the first line of {path} ends in CR LF, so its interpreter is {name + chr(13)!r}"
    interpreter = here / name
    if not interpreter.exists():
        return f"the interpreter of {path} is not there: {name}"
    return _inspect(interpreter, here, error, depth - 1)


def _inspect_elf(path: Path, head: bytes, error: int) -> str:
    if error == errno.ENOEXEC:
        with Path(sys.executable).open("rb") as file:
            ours = file.read(_HEAD)
        is_foreign = ours[_MACHINE] != head[_MACHINE]
        return f"{path} is {'built for another kind of processor' if is_foreign else 'damaged'}"
    if error == errno.ENOENT and (loader := _loader(path)) and not Path(loader).exists():
        return f"the loader of {path} is not there: {loader}, perhaps of another C library"
    return ""


def _loader(program: Path) -> str:
    """The dynamic loader that an ELF program names; empty if it names none, or is damaged."""
    try:
        with program.open("rb") as file:
            head = file.read(64)
            header, segment = (_BYTE_ORDER[head[5]] + layout for layout in _ELF[head[4]])
            table, size, count = struct.unpack_from(header, head)
            for number in range(count):
                file.seek(table + number * size)
                kind, offset, length = struct.unpack(segment, file.read(struct.calcsize(segment)))
                if kind == _PT_INTERP:
                    file.seek(offset)
                    return os.fsdecode(file.read(min(length, _PATH_MAX)).rstrip(b"\0"))
    except (IndexError, KeyError, OverflowError, struct.error):
        pass
    return ""


def _candidates(options: RunOptions, here: Path) -> list[Path]:
    """Where the program is looked for."""
    name = os.fspath(options.command)
    if "/" in name:
        return [here / name]
    inherited = {} if options.clean_env else os.environ
    places = options.env.get("PATH", inherited.get("PATH")) or _DEFAULT_PATH
    return [here / place / name for place in places.split(":")]
