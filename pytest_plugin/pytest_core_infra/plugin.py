"""The pytest plugin of core-infra, and the types of its fixtures for annotations.

Every pytest run on a host where core-infra is installed loads this module and the modules in
``pytest_plugins``. So they import nothing of core_infra; the first use of a fixture, or an option
such as ``--core-vm``, does.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_core_infra._artifact_builder import ArtifactBuilder
    from pytest_core_infra._scoped_processes import ProcessesOfScope
    from pytest_core_infra._stepper import Stepper
    from pytest_core_infra._vm.factory import MachineFactory
    from pytest_core_infra._vm.networks import NetworkFactory
else:
    _TYPES = {
        "ArtifactBuilder": "pytest_core_infra._artifact_builder",
        "MachineFactory": "pytest_core_infra._vm.factory",
        "NetworkFactory": "pytest_core_infra._vm.networks",
        "ProcessesOfScope": "pytest_core_infra._scoped_processes",
        "Stepper": "pytest_core_infra._stepper",
    }

    def __getattr__(name: str) -> Any:
        # Not by core_infra._lazy: pytest looks up attributes of plugins in every run.
        if name not in _TYPES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_TYPES[name]), name)


__all__ = ["ArtifactBuilder", "MachineFactory", "NetworkFactory", "ProcessesOfScope", "Stepper"]

pytest_plugins = (
    "pytest_core_infra._build_fixtures",
    "pytest_core_infra._framework_fixtures",
    "pytest_core_infra._job_fixtures",
    "pytest_core_infra._medium_fixtures",
    "pytest_core_infra._process_fixtures",
    "pytest_core_infra._reports",
    "pytest_core_infra._vm.fixtures",
    "pytest_core_infra._vm.network_fixtures",
)

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
"""The module that a fixture imports when it is used, by the name of the fixture."""


def pytest_configure(config: pytest.Config) -> None:
    """Add sections of reports to JUnit XML, if it is written."""
    # Workers of pytest-xdist get the option, too.
    if getattr(config.option, "xmlpath", None):
        from pytest_core_infra._junit import JUnitSections  # noqa: PLC0415 - only if it is used

        config.pluginmanager.register(JUnitSections(config), "core_infra_junit")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Import the modules behind the fixtures of the collected tests, before the first test runs.

    A test may replace the file system, the clock, or functions of the system. A module that is
    imported meanwhile would keep the replacements.
    """
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for fixture in sorted(used & _MODULES.keys()):
        with contextlib.suppress(Exception):  # the fixture raises it again, where it is reported
            importlib.import_module(_MODULES[fixture])
    if "core_infra" in sys.modules:  # so it may appear in a traceback
        with contextlib.suppress(Exception):
            importlib.import_module("pytest_core_infra._traceback_filter")
