"""Interrupt starts at random moments."""

import os
import random
import signal

from core_infra.framework import Core
from core_infra.process import ActionProcessExited, Service


def alarm(*_: object) -> None:
    raise TimeoutError("too slow")


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the count alone


core = Core()
ended: list[str] = []
others: list[str] = []
core.register_action(lambda event: ended.append(event.id), ActionProcessExited)
service, rng = Service(core), random.Random()  # noqa: S311 - moments
service.run("true")
before = count_descriptors()
signal.signal(signal.SIGALRM, alarm)
for _ in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 1e-3))
        process = service.start("sleep", "600")
        signal.setitimer(signal.ITIMER_REAL, 0)
        process.kill()
    except TimeoutError as error:
        others += [str(error)] if str(error) != "too slow" else []
    except Exception as error:  # noqa: BLE001 - the result
        others.append(repr(error))
    signal.setitimer(signal.ITIMER_REAL, 0)
for process in service.running():
    process.kill()  # the alarm came after its start, and before its name
print(others, service.running(), service.leftovers())
service.shutdown()
known = {process.id for process in service.list()}
print(known <= set(ended), len(ended) == len(set(ended)))
print(count_descriptors() - before)
