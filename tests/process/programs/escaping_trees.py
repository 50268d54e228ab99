"""Kill a daemon and a tree; print how many processes they had, and whether any still runs.

Arguments: limits that are set to a hard limit before, by their numbers; "ready" also waits for a
server to be ready.
"""

import logging
import os
import resource
import sys
from pathlib import Path

from core_infra.process import LogPattern, Service, TcpPort

DAEMON = str(Path(__file__).with_name("daemon.py"))


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


logging.basicConfig(stream=sys.stdout, format="%(message)s")
for limit in filter(str.isdigit, sys.argv[1:]):
    resource.setrlimit(int(limit), (1000, 1000))

with Service() as other, Service() as service:
    other.start("sleep", "600")
    daemon = service.start(sys.executable, DAEMON)
    daemon.wait()
    pids = daemon.leftovers()
    daemon.kill()
    tree = service.start("sh", "-c", "sleep 600 & setsid sleep 600 & wait")
    while len(tree.leftovers()) < 3:
        pass
    pids += tree.leftovers()
    tree.kill()
    print(len(pids), any(map(runs, pids)))

if "ready" in sys.argv:
    with Service() as service:
        log = LogPattern(r"port ([0-9]+)")
        args = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
        server = service.start(sys.executable, *args).wait_ready(log)
        assert log.match is not None
        server.wait_ready(TcpPort(int(log.match[1])))
        print("ready")
