"""Start a daemon that hides: double fork, a session of its own, no environment, no descriptors.

With an argument, also set the limit that carries the reaper's mark (10 is RLIMIT_LOCKS, which
Python does not name).
"""

import os
import resource
import sys

if len(sys.argv) > 1:
    resource.setrlimit(10, (0, 0))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        os.execve("/bin/sleep", ["sleep", "1000"], {})  # noqa: S606 - no shell needed
    os._exit(0)
os.wait()
