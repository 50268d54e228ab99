"""A signal handler uses what its thread waits for; arguments: what it does, the run's seconds."""

import os
import signal
import sys
import threading
import time

from core_infra.process import Service

action, seconds = sys.argv[1:]
service = Service()
service.run("true")


def handle(*_: object) -> None:
    if action == "shutdown":
        print(service.shutdown())  # type: ignore[func-returns-value]
    elif action == "kill":
        print(service.list()[0].kill())  # type: ignore[func-returns-value]
    elif action == "wait":
        print(service.list()[0].wait(30))
    else:
        print(service.run("echo", "within"))


def alarm() -> None:
    while [process.status for process in service.list()] != ["running"]:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGALRM)


signal.signal(signal.SIGALRM, handle)
threading.Thread(target=alarm).start()
try:
    print(service.run("sh", "-c", f"echo out; exec sleep {seconds}"))
except Exception as error:  # noqa: BLE001 - the result
    print(type(error).__name__)
print(service.leftovers())
