"""Waiting until a process is ready, and the error that says why it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from core_infra._unpatched import time
from core_infra.errors import InvalidError
from core_infra.process._errors import NotReadyError
from core_infra.process._listeners import listeners, sockets_of
from core_infra.process._status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from core_infra._eventloop.latch import Latch

    Check: TypeAlias = tuple[object, Callable[[float], str | None]]
    """A probe, and its check of the process, which takes the seconds that it may last."""

_PATIENCE = 1.0
"""Seconds that one check may take, unless its probe says otherwise."""
_MIN_PATIENCE = 0.01
_LINES = 20


class Watched(Protocol):
    """What waiting needs of a process."""

    @property
    def id(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def status(self) -> Status: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def over(self) -> Latch: ...
    @property
    def restarts(self) -> int: ...
    def leftovers(self) -> list[int]: ...
    def output(self) -> str: ...


def check_probe(probe: object) -> None:
    """Raise InvalidError unless *probe* has a method ``check``."""
    if isinstance(probe, type) or not callable(getattr(probe, "check", None)):
        raise InvalidError(
            f"{probe!r} is not a probe", todo="Give TcpPort(8080), LogPattern('ready'), …"
        )


def wait_ready(
    process: Watched, checks: Sequence[Check], *, timeout: float, interval: float
) -> None:
    """Wait until each check has succeeded; see :meth:`Process.wait_ready`."""
    deadline = time.monotonic() + timeout
    while True:
        run = process.restarts
        for check in checks:
            _wait(process, check, deadline, timeout=timeout, interval=interval)
        if process.restarts == run:  # else it has ended meanwhile, and was restarted
            return


def _wait(
    process: Watched, check: Check, deadline: float, *, timeout: float, interval: float
) -> None:
    probe, look = check
    patience = getattr(probe, "timeout", _PATIENCE)
    waits = getattr(probe, "waits", False)
    why: str | None = ""
    while True:
        left = deadline - time.monotonic()
        ended = _has_ended(process)
        if left > 0 or ended or not why:  # after the deadline only if it was never checked
            answer = look(max(_MIN_PATIENCE, min(patience, left)))
            # A check that the end of the time has cut short knows less than the one before it.
            if answer is None or not why or left >= patience or time.monotonic() < deadline:
                why = answer
        if process.status is Status.PENDING:
            why = "it has ended, and is to be started again"
        elif why is None:
            if not _has_ended(process):
                return
            why = "it would be ready, but has ended"
        if ended or left <= 0:
            raise _not_ready(process, probe, why, timeout, ended=ended)
        pause = min(interval, left)
        if process.over.is_set():
            time.sleep(pause)
        elif not waits:
            process.over.wait(pause)


def _has_ended(process: Watched) -> bool:
    """Whether nothing can become ready any more; a daemon outlives the program that started it."""
    return process.over.is_set() and (process.exit_code != 0 or not process.leftovers())


def _not_ready(
    process: Watched, probe: object, why: str, timeout: float, *, ended: bool
) -> NotReadyError:
    if ended:
        what = f"{process} ended before it was ready"
        state = f"its exit code is {process.exit_code}"
    else:
        what = f"{process} was not ready within {timeout:g} s"
        state = f"it still runs, as process {process.pid}"
    ports = _listening(process)
    lines = process.output().splitlines()[-_LINES:]
    details = [
        f"{probe!r}: {why}",
        state,
        f"it listens on {', '.join(ports)}" if ports else "it listens on no port",
        "its last lines:" if lines else "it has written nothing",
        *lines,
    ]
    return NotReadyError(
        what, why="\n".join(details), timeout=timeout, process=process.id, ports=ports, lines=lines
    )


def _listening(process: Watched) -> list[str]:
    """The TCP addresses that it, and all that it started, listen on."""
    inodes, _ = sockets_of(process.leftovers())
    return sorted({str(one) for one in listeners() if one.inode in inodes})
