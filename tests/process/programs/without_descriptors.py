"""A timeout ends while the process has no free descriptors."""

import os
import resource
import time

from core_infra.process import RunOptions, Service

service = Service()
process = service.start_with_options(RunOptions("sleep", ["600"], timeout=0.01))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held: list[int] = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    while not process.timed_out:
        time.sleep(0.001)
    while held:
        os.close(held.pop())
print(process.wait(30), service.leftovers())
