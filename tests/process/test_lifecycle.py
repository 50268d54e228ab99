"""Signals: their handlers may come in anywhere, use the service, and raise whatever they like."""

from __future__ import annotations

import pytest
from process_programs import output_of

PROGRAM = """
import random, signal
from core_infra.process import Service
from core_infra.process._reaper.registry import reaper

INTERRUPTED

def interrupt(*_):
    raise Interrupted

with Service() as service:
    service.run("true")
    same, rng, interrupted = reaper().pid, random.Random(), 0
    signal.signal(signal.SIGALRM, HANDLER)
    for _ in range(300):
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 4e-3))
            service.run("true")
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupted:
            interrupted += 1
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    print(interrupted > 0, service.run("echo", "right"), reaper().pid == same)
    print([process.status for process in service.running()], service.leftovers())
"""


@pytest.mark.parametrize(
    ("interrupted", "handler"),
    [
        ("class Interrupted(BaseException): pass", "interrupt"),
        ("class Interrupted(Exception): pass", "interrupt"),
        # The thread attends to its programs itself only with this one.
        ("Interrupted = KeyboardInterrupt", "signal.default_int_handler"),
    ],
)
def test_runs_that_are_interrupted_at_any_moment_leave_nothing(
    interrupted: str, handler: str
) -> None:
    program = PROGRAM.replace("INTERRUPTED", interrupted).replace("HANDLER", handler)
    assert output_of(program) == "True right\n True\n[] []\n"


HANDLER = """
import os, signal, threading, time
from core_infra.process import Service

service = Service()
service.run("true")

def handle(*_):
    print(DO)

def alarm():
    while [process.status for process in service.list()] != ["running"]:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGALRM)

signal.signal(signal.SIGALRM, handle)
threading.Thread(target=alarm).start()
try:
    print(service.run("sh", "-c", "echo out; exec sleep SECONDS"))
except Exception as error:
    print(type(error).__name__)
print(service.leftovers())
"""


@pytest.mark.parametrize(
    ("do", "seconds", "told"),
    [
        ("service.shutdown()", 600, "None\nRunFailedError\n[]\n"),
        ("service.list()[0].kill()", 600, "None\nRunFailedError\n[]\n"),
        ("service.list()[0].wait(30)", 1, "0\nout\n\n[]\n"),
        ("service.run('echo', 'within')", 1, "within\n\nout\n\n[]\n"),
    ],
)
def test_a_handler_may_do_anything_with_what_its_thread_waits_for(
    do: str, seconds: int, told: str
) -> None:
    assert output_of(HANDLER.replace("DO", do).replace("SECONDS", str(seconds))) == told


NESTED = """
import signal
from core_infra.process import Service

service, runs = Service(), 0

def handle(*_):
    global runs
    assert service.run("echo", "within") == "within\\n"
    runs += 1

signal.signal(signal.SIGALRM, handle)
for number in range(400):
    signal.setitimer(signal.ITIMER_REAL, (number % 40 + 1) * 5e-5)
    assert service.run("echo", str(number)) == f"{number}\\n"
    signal.setitimer(signal.ITIMER_REAL, 0)
print(runs > 0, service.leftovers())
"""


def test_a_handler_may_run_programs_at_any_moment() -> None:
    assert output_of(NESTED) == "True []\n"


STARTS = """
import os, random, signal
from core_infra.process import ActionProcessExited, Service
from core_infra.framework import Core

def alarm(*_):
    raise TimeoutError("too slow")

core, ended, others = Core(), [], []
core.register_action(lambda event: ended.append(event.id), ActionProcessExited)
service, rng = Service(core), random.Random()
service.run("true")
before = len(os.listdir("/proc/self/fd"))
signal.signal(signal.SIGALRM, alarm)
for _ in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 1e-3))
        process = service.start("sleep", "600")
        signal.setitimer(signal.ITIMER_REAL, 0)
        process.kill()
    except TimeoutError as error:
        others += [str(error)] if str(error) != "too slow" else []
    except Exception as error:
        others.append(repr(error))
    signal.setitimer(signal.ITIMER_REAL, 0)
for process in service.running():
    process.kill()  # the alarm came after its start, and before its name
print(others, service.running(), service.leftovers())
service.shutdown()
known = {process.id for process in service.list()}
print(known <= set(ended), len(ended) == len(set(ended)))
print(len(os.listdir("/proc/self/fd")) - before)
"""


def test_an_interrupted_start_says_so_and_leaves_nothing() -> None:
    assert output_of(STARTS) == "[] [] []\nTrue True\n0\n"


EACH_LINE = """
import itertools, linecache, sys
from core_infra.errors import WrongStateError
from core_infra.process import Service

def interrupt_at(number, do):
    lines = itertools.count(1)

    def trace(frame, event, _):
        file = frame.f_code.co_filename
        line = linecache.getline(file, frame.f_lineno).split()
        # Python lets no signal in between the end of a block and what its "with" does then, nor
        # before a "try" that nothing is called before.
        ours = event == "line" and "core_infra" in file and line[0] not in {"with", "try:"}
        if ours and next(lines) == number:
            sys.settrace(None)
            global hit
            hit = True
            do()
        return trace

    sys.settrace(trace)

def interrupt():
    raise KeyboardInterrupt

others = []
for number in itertools.count(1):
    hit, service = False, Service()
    try:
        DO
    except (WrongStateError, KeyboardInterrupt):
        pass
    except Exception as error:
        others.append((number, error))
    finally:
        sys.settrace(None)
    for process in service.list():
        if process.is_running():  # who was interrupted did not wait
            process.await_stopped()
    if service.running() or service.leftovers():
        others.append((number, service.running(), service.leftovers()))
    service.shutdown()
    if not hit:
        break
print(number > 50, others)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("handler", "do"),
    [
        ("service.shutdown", "service.start('sleep', '600').kill()"),
        ("lambda: service.run('true')", "service.start('sleep', '600').kill()"),
        ("service.shutdown", "p = service.start('cat'); p.send_input('x'); p.read(); p.kill()"),
        ("service.shutdown", "p = service.start('seq', '9'); p.wait(); p.output(); p.info()"),
        (
            "lambda: [p.kill() for p in service.running()]",
            "service.start('cat'); service.shutdown()",
        ),
        ("service.shutdown", "p = service.start('cat'); p.signal(18); p.leftovers(); p.kill()"),
        ("interrupt", "service.run('true')"),
        ("interrupt", "service.start('cat'); pass; service.shutdown()"),
    ],
)
def test_no_line_is_a_bad_one_for_a_signal(handler: str, do: str) -> None:
    before, _, rest = do.rpartition("pass; ")
    program = EACH_LINE.replace("DO", f"{before}interrupt_at(number, {handler}); {rest}")
    assert output_of(program) == "True []\n"
