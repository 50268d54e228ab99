"""The pytest plugin of core-infra: one module of fixtures for each room of the library.

Every pytest run on a host where core-infra is installed loads these modules, most of them without
a test that needs them. So they import nothing of core_infra; the first use of a fixture, or an
option such as ``--core-vm``, does.
"""

pytest_plugins = (
    "pytest_core_infra.build_fixtures",
    "pytest_core_infra.framework_fixtures",
    "pytest_core_infra.job_fixtures",
    "pytest_core_infra.medium_fixtures",
    "pytest_core_infra.process_fixtures",
    "pytest_core_infra.runner_fixtures",
    "pytest_core_infra.traces",
    "pytest_core_infra.vm_fixtures",
)
