"""The modules behind fixtures are loaded before the first test runs.

A test may serve a file system of its own, freeze the clock, or replace functions of the system.
What is imported while it does would keep that.
"""

from __future__ import annotations

import contextlib
import importlib
import sys

import pytest

_MODULES = {
    "build_artifacts": "pytest_core_infra._artifact_builder",
    "core": "core_infra.framework._core",
    "core_journal": "core_infra.jobrunner._journal.journal",
    "core_medium": "core_infra.medium._memory",
    "core_medium_from": "core_infra.medium._load",
    "core_medium_fs": "core_infra.medium._fake",
    "core_poller": "pytest_core_infra._stepper",
    "core_process": "core_infra.process._service",
    "core_runner": "core_infra.process._runner.runner",
}
"""By the fixtures that load them when they are used."""


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Load what the collected tests will use."""
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for fixture in sorted(used & _MODULES.keys()):
        with contextlib.suppress(Exception):  # the fixture raises it again, where it is reported
            importlib.import_module(_MODULES[fixture])
    if "core_infra" in sys.modules:  # and so it may be in a traceback
        with contextlib.suppress(Exception):
            importlib.import_module("pytest_core_infra._traceback_filter")
