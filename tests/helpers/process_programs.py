"""Programs that misbehave, for tests to run."""

import subprocess
import sys

PYTHON = sys.executable

# Double fork, a session of its own, no environment, no descriptor of ours; then the program that
# was started ends, so that nothing leads from it to the daemon.
DAEMON = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os._exit(0)
os.wait()
"""

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 60; done"


def output_of(program: str) -> str:
    """What a Python program prints; a failure if it tells of any error."""
    done = subprocess.run(
        [PYTHON, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    return done.stdout
