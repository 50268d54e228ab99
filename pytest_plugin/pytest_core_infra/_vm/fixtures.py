"""Machines: the options ``--core-vm…``, the marker and the fixtures.

What runs the machines is loaded by ``--core-vm`` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_core_infra._vm import marker
from pytest_core_infra._vm.options import add_options, switched_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._machine import Machine
    from pytest_core_infra._vm.factory import MachineFactory
    from pytest_core_infra._vm.session import VmSession

SESSION = "core_infra_vm"
"""The name that the plugin with everything else is registered by, once ``--core-vm`` is given."""

FIXTURES = {*marker.FACTORIES.values(), "core_vm_snapshot"}
"""Those that need a machine; every other one asks for one of them."""

SKIP_REASON = "needs a real machine: run pytest with --core-vm"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options ``--core-vm…``."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and, if machines are wanted, what runs them."""
    config.addinivalue_line("markers", marker.DESCRIPTION)
    if switched_on(config):
        from pytest_core_infra._vm.session import VmSession  # noqa: PLC0415 - imported only if it is used

        config.pluginmanager.register(VmSession(config), SESSION)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Report wrong markers and parameters; without ``--core-vm``, skip what needs a machine."""
    skip = None if _session(config) else pytest.mark.skip(reason=SKIP_REASON)
    for item in items:
        marked = item.get_closest_marker(marker.NAME) is not None
        if mistakes := marker.mistakes(item):
            _report_collection_error(item, mistakes)
        if skip and (marked or not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))):
            item.add_marker(skip)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a parameter of a machine's by what it asks for."""
    if argname in marker.PARAMETRIZED and isinstance(val, dict):
        return "-".join(f"{name}={value}" for name, value in val.items()) or "default"
    return None


@pytest.fixture
def core_vm(request: pytest.FixtureRequest, core_vm_factory: MachineFactory) -> Machine:
    """A real Linux machine of this test's own: made for it in a tenth of a second, gone after it.
    Needs ``pytest --core-vm``; without that, the test is skipped.
    ``exec(command, input=, env=, cwd=, user=, timeout=, check=)`` runs a command as root and gives
    ``stdout``, ``stderr``, ``exit_code``, ``duration``; ``stream(command)`` follows one that runs.
    ``push(here, there)`` and ``pull(there, here)`` copy files and directories; ``read_text`` and
    ``write_text`` are short for small ones. ``wait_until_succeeds(command)``,
    ``wait_for_file(path)`` and ``wait_for_port(number)`` wait. ``console`` is the serial console
    as a pexpect object, ``logs()`` what it has printed; ``port(number)`` is the port of this host
    that leads to one of the guest's; ``stop()`` ends the machine early.
    It is a clone of a machine that has booted (``--core-vm-cold`` boots each one). ``revert()``
    takes it back to its start, and to any ``snapshot(name)`` by ``revert(name)``.
    ``@pytest.mark.core_vm(memory=512, cpus=2)`` asks for another machine than the default
    (``--core-vm-memory``, ``--core-vm-cpus``, ``--core-vm-image``);
    ``@pytest.mark.parametrize("core_vm", [{"memory": 512}, {"cpus": 2}], indirect=True)`` runs the
    test once on each, and ``core_vm_factory`` takes the same. If the test fails, its report has the
    console's end and the last commands, and ``--core-vm-keep=failed`` leaves the machine running
    for you to look around in.

    Example::

        from core_infra.vm import Machine

        def test_kernel(core_vm: Machine) -> None:
            assert core_vm.exec("uname -s").stdout.strip() == "Linux"
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return core_vm_factory(**marker.parameter(request))


@pytest.fixture
def core_vm_factory(request: pytest.FixtureRequest) -> MachineFactory:
    """Starts as many machines as the test wants; they are thrown away after it.
    Needs ``pytest --core-vm``; without that, the test is skipped.
    ``core_vm_factory(memory=, cpus=, disks=, image=, template=, variables=, cpu=, arch=, kernel=,
    initrd=, cmdline=, name=, timeout=, cold=)`` returns a running machine, like ``core_vm``. Each
    argument is optional: ``memory`` in MiB, ``cpus``, ``disks`` (``["2G", "data.qcow2"]``: sizes of
    empty ones, or images, which are never written to), ``image`` (a path, or an ``Image``), or
    ``template`` with its ``variables`` (a LinuxKit file's), ``cpu`` (the processor, as QEMU's
    ``-cpu`` takes it), ``arch`` (``aarch64``), ``kernel`` and ``initrd`` (instead of the image's),
    ``cmdline`` (put after that of the image), ``name`` (what it is called in reports), ``timeout``
    (seconds that it may take to boot), ``cold`` (boot it, though it could be cloned). What is not
    given comes from the
    test's marker ``core_vm``, then from the options.

    Example::

        from pytest_core_infra.plugin import MachineFactory

        def test_upgrade(core_vm_factory: MachineFactory) -> None:
            small = core_vm_factory(memory=128)
            other = core_vm_factory(name="other", cpus=2, image="build/my-image")
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    session = _session(request.config)
    if session is None:  # asked for by a name that nobody could see when tests were collected
        pytest.skip(SKIP_REASON)
    return session.factory(request.node)


@pytest.fixture(scope="class")
def core_vm_class(request: pytest.FixtureRequest, core_vm_factory_class: MachineFactory) -> Machine:
    """A machine like ``core_vm`` that the tests of a class share, from the first that uses it.
    ``@pytest.mark.core_vm(memory=512, revert=True)`` on the class asks for another than the default
    one, and takes it back after each test to what it was before, as ``--core-vm-revert`` does.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return core_vm_factory_class(**marker.parameter(request))


@pytest.fixture(scope="module")
def core_vm_module(
    request: pytest.FixtureRequest, core_vm_factory_module: MachineFactory
) -> Machine:
    """A machine like ``core_vm`` that the tests of a module share, from the first that uses it.
    ``pytestmark = pytest.mark.core_vm(memory=512, revert=True)`` asks for another than the default
    one, and takes it back after each test to what it was before, as ``--core-vm-revert`` does. What
    fixtures of the module, the class or the session have done to it stays.

    Example::

        pytestmark = pytest.mark.core_vm(revert=True)

        @pytest.fixture(scope="module")
        def server(core_vm_module):
            core_vm_module.exec("apk add nginx && nginx", check=True)
            return core_vm_module
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return core_vm_factory_module(**marker.parameter(request))


@pytest.fixture(scope="session")
def core_vm_session(
    request: pytest.FixtureRequest, core_vm_factory_session: MachineFactory
) -> Machine:
    """A machine like ``core_vm`` that all tests share; with pytest-xdist, those of each worker.
    ``--core-vm-revert`` takes it back after each test to what it was before; what fixtures of a
    wider scope than one test have done to it stays. The options say what it is made of;
    ``core_vm_factory_session(memory=512, revert=True)`` makes others.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return core_vm_factory_session(**marker.parameter(request))


@pytest.fixture(scope="class")
def core_vm_factory_class(request: pytest.FixtureRequest) -> MachineFactory:
    """Starts machines for a class as ``core_vm_factory`` does for a test; ``revert=`` takes one
    back after each test.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return _shared_factory(request)


@pytest.fixture(scope="module")
def core_vm_factory_module(request: pytest.FixtureRequest) -> MachineFactory:
    """Starts machines for a module as ``core_vm_factory`` does for a test; ``revert=`` takes one
    back after each test.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return _shared_factory(request)


@pytest.fixture(scope="session")
def core_vm_factory_session(request: pytest.FixtureRequest) -> MachineFactory:
    """Starts machines for the whole run as ``core_vm_factory`` does for a test; ``revert=`` takes
    one back after each test.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return _shared_factory(request)


@pytest.fixture(scope="session")
def core_vm_snapshot(request: pytest.FixtureRequest) -> Callable[..., Callable[..., Machine]]:
    r"""Prepares a machine once, and gives each test a clone of what came of it.
    Needs ``pytest --core-vm``; without that, the tests are skipped.
    ``core_vm_snapshot(prepare, image=, memory=, cpus=, disks=, cache=, depends=)`` calls
    ``prepare`` with a fresh machine, to install, migrate, seed or start what all tests need, and
    returns a function. Each call of that returns a machine that begins where the preparation
    ended, files, memory and processes; it lives as long as its caller, a test or a fixture with a
    scope. ``cache="word"`` keeps the prepared machine on this host for later runs: it is prepared
    again when the word, the machine's make, the code of ``prepare`` or the contents of the files
    and directories in ``depends`` change. If ``prepare`` fails, the first test's report has its
    commands and the console, and the reports of the others say where that is.

    Example::

        @pytest.fixture(scope="session")
        def seeded(core_vm_snapshot):
            return core_vm_snapshot(lambda vm: vm.push("seed.sql", "/srv/"))

        def test_seed(seeded) -> None:
            assert seeded().exec("ls /srv").stdout == "seed.sql\n"
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    session = _session(request.config)
    if session is None:
        pytest.skip(SKIP_REASON)
    return session.prepare


def _shared_factory(request: pytest.FixtureRequest) -> MachineFactory:
    session = _session(request.config)
    if session is None:
        pytest.skip(SKIP_REASON)
    return session.shared_factory(request)


def _session(config: pytest.Config) -> VmSession | None:
    session: VmSession | None = config.pluginmanager.get_plugin(SESSION)
    return session


def _report_collection_error(item: pytest.Item, mistakes: list[str]) -> None:
    # As a report and not as an exception: each wrong test is told, and by pytest-xdist's workers
    # as well, where an exception at this point is an internal error.
    text = "\n".join(f"{item.nodeid}: {mistake}" for mistake in mistakes)
    report = pytest.CollectReport(item.nodeid, "failed", longrepr=text, result=None)
    item.ihook.pytest_collectreport(report=report)
