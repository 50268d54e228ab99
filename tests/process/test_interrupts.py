"""The exception of a signal may hit anywhere, and does harm to nothing but what it interrupts."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import random, signal
from core_infra.process import Service
from core_infra.process.keepers import keeper

class Interrupted(BASE):
    pass

def interrupt(*_):
    raise Interrupted

with Service() as service:
    service.run("true")
    same, rng, interrupted = keeper().pid, random.Random(), 0
    signal.signal(signal.SIGALRM, interrupt)
    for _ in range(300):
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 4e-3))
            service.run("true")
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupted:
            interrupted += 1
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    print(interrupted > 0, service.run("echo", "right"), keeper().pid == same)
    print([process.status for process in service.running()], service.leftovers())
"""


@pytest.mark.parametrize("base", ["BaseException", "Exception"])
def test_runs_that_are_interrupted_at_any_moment_leave_nothing(base: str) -> None:
    program = PROGRAM.replace("BASE", base)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("True right\n True\n[] []\n", "")
    assert done.returncode == 0
