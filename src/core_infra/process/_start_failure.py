"""What really keeps a program from starting: the system's answer names only a kind."""

from __future__ import annotations

import contextlib
import errno
import re
import stat
import sys
from typing import TYPE_CHECKING

from core_infra._unpatched import Path, os

if TYPE_CHECKING:
    from core_infra.process._options import RunOptions

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"  # the keeper's
_BEGINNING = 4096
_PAGES = 32  # for one argument: MAX_ARG_STRLEN
_DEPTH = 4  # interpreters of interpreters, as the kernel has it
_MACHINE = slice(18, 20)  # in a program's header
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH

# Linkers put the path of the dynamic loader just behind the headers.
_LOADER = re.compile(rb"\0(/[^\0\n]{1,200}/ld[^\0\n/]*)\0")


def culprit(options: RunOptions, error: int) -> str:
    """What is missing or wrong, if it is something else than the program's name; or nothing.

    Args:
        options: what was to be started.
        error: what the system answered.
    """
    if error == errno.EBADF:
        closed = [fd for fd in options.pass_fds if not _is_open(fd)]
        return f"pass_fds has {closed}, not open here" if closed else ""
    if error == errno.E2BIG:
        return _longest(options)
    here = Path(options.directory())
    for path in _candidates(options, here):
        with contextlib.suppress(OSError):
            if path.exists() and (why := _look(path, here, error, _DEPTH)):
                return why
    return ""


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _longest(options: RunOptions) -> str:
    """The argument or variable that no program can be given; nothing if it is their sum."""
    limit = _PAGES * os.sysconf("SC_PAGESIZE")
    sizes = {f"argument {at}": word for at, word in enumerate(options.argv())}
    sizes |= {f"variable {name}": f"{name}={value or ''}" for name, value in options.env.items()}
    for name, text in sizes.items():
        if len(os.fsencode(text)) >= limit:
            return f"{name} has {len(os.fsencode(text))} bytes, and the system takes {limit - 1}"
    return ""


def _look(path: Path, here: Path, error: int, depth: int) -> str:
    if error == errno.EACCES and (why := _forbidden(path)):
        return why
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    if beginning.startswith(b"#!"):
        if not depth:
            return f"{path} is a script for a script for a script …, deeper than the system goes"
        return _look_at_script(path, beginning, here, error, depth)
    if beginning.startswith(b"\x7fELF"):
        return _look_at_program(path, beginning, error)
    if error == errno.ENOEXEC:
        return f"{path} is neither a program nor a script that begins with #!"
    return ""


def _forbidden(path: Path) -> str:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return f"{path} is a directory"
    if not mode & _EXECUTABLE:
        return f"{path} is not executable"
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return f"{path} is on a file system mounted noexec"
    return ""


def _look_at_script(path: Path, beginning: bytes, here: Path, error: int, depth: int) -> str:
    line = beginning[2:].partition(b"\n")[0]
    words = line.split(maxsplit=1)
    if not words:
        return f"{path} names no interpreter after #!"
    name = os.fsdecode(words[0])
    if line.endswith(b"\r"):
        return f"the first line of {path} ends in CR LF, so its interpreter is {name + chr(13)!r}"
    interpreter = here / name
    if not interpreter.exists():
        return f"the interpreter of {path} is not there: {name}"
    return _look(interpreter, here, error, depth - 1)


def _look_at_program(path: Path, beginning: bytes, error: int) -> str:
    if error == errno.ENOEXEC:
        with Path(sys.executable).open("rb") as file:
            ours = file.read(_BEGINNING)
        is_strange = ours[_MACHINE] != beginning[_MACHINE]
        return f"{path} is {'built for another kind of processor' if is_strange else 'damaged'}"
    found = _LOADER.search(beginning)
    if error == errno.ENOENT and found:
        loader = os.fsdecode(found[1])
        if not Path(loader).exists():
            return f"the loader of {path} is not there: {loader}, perhaps of another C library"
    return ""


def _candidates(options: RunOptions, here: Path) -> list[Path]:
    """Where the program is looked for."""
    name = os.fspath(options.command)
    if "/" in name:
        return [here / name]
    inherited = {} if options.clean_env else os.environ
    places = options.env.get("PATH", inherited.get("PATH")) or _DEFAULT_PATH
    return [here / place / name for place in places.split(":")]
