"""The pytest plugin of core-infra: one module of fixtures for each room of the library.

Every pytest run on a host where core-infra is installed loads these modules, most of them without
a test that needs them. So they import nothing of core_infra; the first use of a fixture, or an
option such as ``--core-vm``, does.
"""

import pytest

pytest_plugins = (
    "pytest_core_infra.build_fixtures",
    "pytest_core_infra.early",
    "pytest_core_infra.framework_fixtures",
    "pytest_core_infra.job_fixtures",
    "pytest_core_infra.medium_fixtures",
    "pytest_core_infra.process_fixtures",
    "pytest_core_infra.runner_fixtures",
    "pytest_core_infra.traces",
    "pytest_core_infra.vm_fixtures",
)


def pytest_configure(config: pytest.Config) -> None:
    """Complete JUnit XML where it is written."""
    # A worker of pytest-xdist gets the option, too.
    if getattr(config.option, "xmlpath", None):
        from pytest_core_infra.junit import JUnitSections  # noqa: PLC0415 - who uses it pays for it

        config.pluginmanager.register(JUnitSections(config), "core_infra_junit")
