"""A daemon that has lost its mark runs until the last service of its process ends."""

import sys
from pathlib import Path

from core_infra.process import Service

DAEMON = str(Path(__file__).with_name("daemon.py"))


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


with Service() as service:
    service.run(sys.executable, DAEMON, "unmarked")
    [leftover] = service.leftovers()
    running = service.start("sleep", "600")
    running.kill()
    print(runs(leftover.pid))  # it may not belong to that one
    with Service() as other:
        other.run("true")
        print(service.leftovers())  # it may belong to the other service
    print(runs(leftover.pid))
print(runs(leftover.pid))
