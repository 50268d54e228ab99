"""The system's own functions, whatever a test has put in their place.

A test may freeze the clock, forbid ``os.open`` or serve another file system. The programs and
machines beside it are real all the same: their deadlines pass, their bytes are moved, and they are
ended. So what must go on under any patch uses the functions of this module. They are bound when it
is imported, and out of the reach of what replaces attributes of modules: a partial object is
neither found by its name nor by its identity.
"""

from __future__ import annotations

import time
from functools import partial

monotonic = partial(time.monotonic)
sleep = partial(time.sleep)
