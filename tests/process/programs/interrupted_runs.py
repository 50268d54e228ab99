"""Interrupt short runs at random moments; argument: the kind of exception."""

import random
import signal
import sys
from collections.abc import Callable

from core_infra.process import Service
from core_infra.process._reaper.registry import reaper


class OwnBaseError(BaseException):
    pass


class OwnError(Exception):
    pass


kinds: dict[str, type[BaseException]] = {
    "BaseException": OwnBaseError,
    "Exception": OwnError,
    "KeyboardInterrupt": KeyboardInterrupt,
}
interrupted_by = kinds[sys.argv[1]]


def interrupt(*_: object) -> None:
    raise interrupted_by


# The thread serves its programs itself only with Python's own handler.
handler: Callable[..., object] = interrupt
if interrupted_by is KeyboardInterrupt:
    handler = signal.default_int_handler

with Service() as service:
    service.run("true")
    same, rng, interrupted = reaper().pid, random.Random(), 0  # noqa: S311 - moments
    signal.signal(signal.SIGALRM, handler)
    for _ in range(300):
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 4e-3))
            service.run("true")
            signal.setitimer(signal.ITIMER_REAL, 0)
        except interrupted_by:
            interrupted += 1
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    print(interrupted > 0, service.run("echo", "right"), reaper().pid == same)
    print([process.status for process in service.running()], service.leftovers())
