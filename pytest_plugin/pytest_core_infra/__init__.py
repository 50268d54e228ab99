"""The pytest plugin of core-infra, on top of the library.

Nothing is imported here: every pytest run on a host that has core-infra loads this package. For
annotations: ``from core_infra.vm import Machine``, and
``from pytest_core_infra.plugin import MachineFactory``.
"""
