"""The pytest plugin of core-infra: one module of fixtures for each room of the library.

Every pytest run on a host where core-infra is installed loads these modules, most of them without
a test that needs them. So they import nothing of core_infra; the first use of a fixture, or an
option such as ``--core-vm``, does.
"""

import pytest

pytest_plugins = (
    "pytest_core_infra._build_fixtures",
    "pytest_core_infra._early",
    "pytest_core_infra._framework_fixtures",
    "pytest_core_infra._job_fixtures",
    "pytest_core_infra._medium_fixtures",
    "pytest_core_infra._process_fixtures",
    "pytest_core_infra._tracebacks",
    "pytest_core_infra._vm.fixtures",
)


def pytest_configure(config: pytest.Config) -> None:
    """Complete JUnit XML where it is written."""
    # A worker of pytest-xdist gets the option, too.
    if getattr(config.option, "xmlpath", None):
        from pytest_core_infra._junit import JUnitSections  # noqa: PLC0415 - who uses it pays for it

        config.pluginmanager.register(JUnitSections(config), "core_infra_junit")
