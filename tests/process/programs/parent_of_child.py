"""Start a child on a thread that ends at once; print its pid and wait to be ended."""

import sys
import threading

from core_infra.process import spawn

pids: list[int] = []
thread = threading.Thread(target=lambda: pids.append(spawn(["sleep", "600"]).pid))
thread.start()
thread.join()
print(pids[0], flush=True)
sys.stdin.read()
