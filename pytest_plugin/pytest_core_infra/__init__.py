"""The pytest plugin of core-infra: a thin face over the library.

Nothing is imported here: every pytest run on a host that has core-infra loads this package. For
annotations: ``from core_infra.vm import Machine``, and
``from pytest_core_infra._vm.factory import MachineFactory``.
"""
