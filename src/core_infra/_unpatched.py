"""The system's own functions, even if a test has patched them.

A test may freeze the clock, forbid ``os.open`` or ``socket``, or replace the file system behind
``open``. Its programs and machines are still real: their deadlines pass, their data is transferred,
their files are removed, and they are ended. So the modules of this library that do such things
import ``os``, ``time``, ``Path``, … from here. These are namespaces with the contents of the
modules of these names at the time of the import, and their Python functions have such namespaces as
their globals: a patch of a module does not affect them.

Paths that the user names, such as files that are copied into a machine, are for the modules proper:
a test with a file system of its own means files in that.
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
