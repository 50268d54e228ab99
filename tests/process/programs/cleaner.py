"""Take a moment to clean up after SIGTERM."""

import os
import signal
import sys
import time


def clean(*_: object) -> None:
    time.sleep(0.3)
    os.write(1, b"cleaned up\n")
    sys.exit()


signal.signal(signal.SIGTERM, clean)
os.write(1, b"up\n")
time.sleep(600)
