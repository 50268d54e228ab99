"""Start processes, a daemon and a detached program; print their pids and wait to be ended."""

import sys
from pathlib import Path

from core_infra.process import RunOptions, Service

service = Service()
daemon = service.start(sys.executable, str(Path(__file__).with_name("daemon.py")))
daemon.wait()
detached = service.start_with_options(RunOptions("sleep", ["600"], detach=True))
print(service.start("sleep", "600").pid, *daemon.leftovers(), detached.pid, flush=True)
sys.stdin.read()
