"""Run by the tests as a program: writes versions of one file until it is killed.

argv: directory, file, "loop" or "middle" (die in the middle of one write).
"""

import itertools
import os
import signal
import sys

from core_infra.medium import LocalMedium

directory, name, how = sys.argv[1:]
medium = LocalMedium(directory)
if how == "middle":
    with medium.create(name) as writer:
        writer.write(b"half" * 100_000)
        writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
for version in itertools.count():
    medium.write_bytes(name, b"%06d\n" % version * 20_000)
