"""The system's own functions, whatever a test has put in their place.

A test may freeze the clock, forbid ``os.open`` or ``socket``, or have another file system served by
``open``. The programs and machines beside it are real all the same: their deadlines pass, their
bytes are moved, their files are removed, and they are ended. So the modules of this library that do
such things import ``os``, ``time``, ``Path``, … from here. These are namespaces with what was in
the modules of these names when this one was imported, and their Python functions have such
namespaces as their globals: whoever replaces an attribute of a module does not reach them.

Paths that the user names, such as what is copied into a machine, are for the modules proper: a test
that serves a file system of its own means files in that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Path", "os", "select", "shutil", "signal", "socket", "subprocess", "tempfile", "time"]

if TYPE_CHECKING:
    import os
    import select
    import shutil
    import signal
    import socket
    import subprocess
    import tempfile
    import time
    from pathlib import Path
else:
    from core_infra._rebinding import (
        Path,
        os,
        select,
        shutil,
        signal,
        socket,
        subprocess,
        tempfile,
        time,
    )
