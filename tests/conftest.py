from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the host is, not whether the code is right.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

pytest_plugins = ["pytester"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Our own suite always boots real machines: here a skipped test would prove nothing.
    config.option.core_vm = True
    # nohup and a shell's & ignore these, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    # Without buffers in Python, nothing would show what happens when one is written at the end.
    os.environ.pop("PYTHONUNBUFFERED", None)
    # What is drawn on a terminal is looked at, whatever the one that this runs on can do.
    os.environ["TERM"] = "xterm-256color"
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        os.environ.pop(name, None)
