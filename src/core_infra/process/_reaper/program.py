"""The reaper's binary: where it is, how it is started, and what it lacks on this host."""

from __future__ import annotations

import logging
import resource

from core_infra._binaries import host_program
from core_infra._unpatched import os, subprocess
from core_infra.errors import UnavailableError
from core_infra.process._listeners import proc_is_ours

_MARKS = {"RLIMIT_LOCKS": 10, "RLIMIT_RSS": 5, "RLIMIT_RTTIME": 15}
"""Limits that can carry a tag, in the reaper's order; Python does not name all of them."""

_log = logging.getLogger(__name__)


def start_reaper(fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start it; logs a warning if this host limits how it recognises orphans.

    Args:
        fds: its arguments, descriptors that it inherits.

    Raises:
        UnavailableError: it is missing, or the system does not start it.
    """
    binary = host_program("reaper", "reaper of processes")
    try:
        popen = subprocess.Popen(
            [binary, *map(str, fds)],
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
            start_new_session=True,
        )
    except OSError as error:  # else it would pass for an error of the user's program
        raise UnavailableError(
            f"cannot start the reaper of processes, {binary}",
            why=error.strerror or str(error),
            todo="It must be executable, on a file system that is not mounted noexec.",
            errno=error.errno,
        ) from error
    _warn_of_limits()
    return popen


def _warn_of_limits() -> None:
    first, *_ = _MARKS
    free = [
        name
        for name, number in _MARKS.items()
        if resource.getrlimit(number)[1] == resource.RLIM_INFINITY
    ]
    if not free:
        _log.warning(
            "%s have hard limits, so processes may not be marked: a daemon that leaves its session"
            " is then ended with the last service or this process, and not before",
            ", ".join(_MARKS),
        )
    elif first not in free:
        _log.warning("%s has a hard limit: processes are marked in %s instead", first, free[0])
    if not proc_is_ours():
        why = "belongs to another PID namespace" if os.path.exists("/proc/self") else "is missing"
        _log.warning("/proc %s: what a program has started is found by its mark alone", why)
