"""The fixtures ``core_vm…``, their options and their marker.

The modules that run machines are imported only with ``--core-vm``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_core_infra._markers import report_mistakes
from pytest_core_infra._vm import marker
from pytest_core_infra._vm.options import add_options, switched_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine import Machine
    from pytest_core_infra._vm.factory import MachineFactory
    from pytest_core_infra._vm.session import VmSession

SESSION = "core_infra_vm"
"""The name of the plugin that ``--core-vm`` registers."""

FIXTURES = {*marker.FACTORIES.values(), *marker.NETWORKS, "core_vm_snapshot"}
"""The fixtures that need a machine; all others depend on one of them."""

_SCOPES = {"class": "a class", "module": "a module", "session": "the whole run"}

SKIP_REASON = "needs a real machine: run pytest with --core-vm"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options ``--core-vm…``."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and, with ``--core-vm``, the plugin that runs machines."""
    config.addinivalue_line("markers", marker.DESCRIPTION)
    if switched_on(config):
        from pytest_core_infra._vm.session import VmSession  # noqa: PLC0415 - imported only if it is used

        config.pluginmanager.register(VmSession(config), SESSION)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Report wrong markers and parameters; without ``--core-vm``, skip tests with machines."""
    skip = None if session_of(config) else pytest.mark.skip(reason=SKIP_REASON)
    for item in items:
        marked = item.get_closest_marker(marker.NAME) is not None
        if mistakes := marker.mistakes(item):
            report_mistakes(item, mistakes)
        if skip and (marked or not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))):
            item.add_marker(skip)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Make the test id of a machine's parameter from its arguments."""
    if argname in marker.PARAMETRIZED and isinstance(val, dict):
        return "-".join(f"{name}={value}" for name, value in val.items()) or "default"
    return None


@pytest.fixture
def core_vm(request: pytest.FixtureRequest, core_vm_factory: MachineFactory) -> Machine:
    """A real Linux machine for this test: started in a tenth of a second, discarded after it.
    Needs ``pytest --core-vm``; without that, the test is skipped.
    ``exec(command, input=, env=, cwd=, user=, timeout=, check=)`` runs a command as root and
    returns ``stdout``, ``stderr``, ``exit_code``, ``duration``; ``stream(command)`` reads the
    output of a command while it runs. ``push(here, there)`` and ``pull(there, here)`` copy files
    and directories; ``read_text`` and ``write_text`` are shorter for small files.
    ``wait_until_succeeds(command)``, ``wait_for_file(path)`` and ``wait_for_port(number)`` wait.
    ``console`` is the serial console as a pexpect object, ``logs()`` its output; ``port(number)``
    is the port of this host that is forwarded to a port of the guest; ``stop()`` ends the machine
    early. The machine is a clone of one that has booted (``--core-vm-cold`` boots each one).
    ``revert()`` returns it to its initial state, ``revert(name)`` to the state at
    ``snapshot(name)``.
    ``@pytest.mark.core_vm(memory=512, cpus=2)`` requests another machine than the default
    (``--core-vm-memory``, ``--core-vm-cpus``, ``--core-vm-image``);
    ``@pytest.mark.parametrize("core_vm", [{"memory": 512}, {"cpus": 2}], indirect=True)`` runs the
    test once on each, and also works with ``core_vm_factory``. If the test fails, its report has
    the end of the console and the last commands; ``--core-vm-keep=failed`` leaves the machine
    running for you to inspect.

    Example::

        from core_infra.vm import Machine

        def test_kernel(core_vm: Machine) -> None:
            assert core_vm.exec("uname -s").stdout.strip() == "Linux"
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return core_vm_factory(**marker.parameter(request))


@pytest.fixture
def core_vm_factory(request: pytest.FixtureRequest) -> MachineFactory:
    """Starts any number of machines for the test; they are discarded after it.
    Needs ``pytest --core-vm``; without that, the test is skipped.
    ``core_vm_factory(memory=, cpus=, disks=, image=, template=, variables=, cpu=, arch=, kernel=,
    initrd=, cmdline=, entrypoint=, init=, packages=, suite=, networks=, network=, name=, timeout=,
    cold=)`` returns a running machine, like ``core_vm``. Each argument is optional: ``memory`` in
    MiB, ``cpus``, ``disks`` (``["2G", "data.qcow2"]``: sizes of empty disks, or images, which are
    never changed), ``image`` (a path, an address such as ``debian:12``, or an ``Image``), or
    ``template`` with its ``variables`` (of a LinuxKit file), ``cpu`` (the processor, as QEMU's
    ``-cpu`` takes it), ``arch`` (``aarch64``), ``kernel`` and ``initrd`` (instead of the image's),
    ``cmdline`` (added to the image's), ``entrypoint`` and ``init`` (the programs that an OCI image
    starts), ``packages`` (Debian packages that it has) of the release ``suite``, ``networks`` (see
    ``core_network``), ``network`` (``nat``: open to the outside), ``name`` (in reports and on
    networks), ``timeout`` (seconds that it may take to boot), ``cold`` (boot it instead of
    cloning it). The default of an argument is that of the test's marker ``core_vm``, then that of
    the options.

    Example::

        from pytest_core_infra.plugin import MachineFactory

        def test_upgrade(core_vm_factory: MachineFactory) -> None:
            small = core_vm_factory(memory=128)
            other = core_vm_factory(name="other", cpus=2, image="build/my-image")
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return required_session(request).factory(request.node)


@pytest.fixture(scope="class")
def core_vm_class(request: pytest.FixtureRequest, core_vm_factory_class: MachineFactory) -> Machine:
    """A machine like ``core_vm`` that the tests of a class share.
    ``@pytest.mark.core_vm(memory=512, revert=True)`` on the class requests another machine than the
    default, and reverts it after each test, as ``--core-vm-revert`` does.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return core_vm_factory_class(**marker.parameter(request))


@pytest.fixture(scope="module")
def core_vm_module(
    request: pytest.FixtureRequest, core_vm_factory_module: MachineFactory
) -> Machine:
    """A machine like ``core_vm`` that the tests of a module share.
    ``pytestmark = pytest.mark.core_vm(memory=512, revert=True)`` requests another machine than the
    default, and reverts it after each test, as ``--core-vm-revert`` does. Changes by fixtures of
    the module, the class or the session stay.

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
    """A machine like ``core_vm`` that all tests share; with pytest-xdist, one for each worker.
    ``--core-vm-revert`` reverts it after each test; changes by fixtures of a wider scope than one
    test stay. The options define its hardware and image;
    ``core_vm_factory_session(memory=512, revert=True)`` starts others.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return core_vm_factory_session(**marker.parameter(request))


def for_scope(
    scope: Literal["class", "module", "session"],
    text: str,
    make: Callable[[VmSession, pytest.FixtureRequest], Any],
) -> Any:
    """A fixture of one scope, for what tests of that scope share.

    Args:
        scope: the scope of the fixture.
        text: its documentation, with SCOPE for the scope in words.
        make: returns what the fixture returns, given the plugin and the request.
    """

    def shared(request: pytest.FixtureRequest) -> Any:
        return make(required_session(request), request)

    shared.__doc__ = text.replace("SCOPE", _SCOPES[scope])
    return pytest.fixture(scope=scope)(shared)


_SHARED_FACTORY = """Starts machines for SCOPE as ``core_vm_factory`` does for a test;
``revert=`` reverts one after each test.
"""


def _shared_factory(session: VmSession, request: pytest.FixtureRequest) -> MachineFactory:
    return session.shared_factory(request)


core_vm_factory_class = for_scope("class", _SHARED_FACTORY, _shared_factory)
core_vm_factory_module = for_scope("module", _SHARED_FACTORY, _shared_factory)
core_vm_factory_session = for_scope("session", _SHARED_FACTORY, _shared_factory)


@pytest.fixture(scope="session")
def core_vm_snapshot(request: pytest.FixtureRequest) -> Callable[..., Callable[..., Machine]]:
    r"""Prepares a machine once, and gives each test a clone of it.
    Needs ``pytest --core-vm``; without that, the tests are skipped.
    ``core_vm_snapshot(prepare, image=, memory=, cpus=, disks=, cache=, depends=)`` calls
    ``prepare`` with a fresh machine, to install, migrate, seed or start what all tests need, and
    returns a function. Each call of it returns a machine in the state at the end of the
    preparation, with files, memory and processes; it exists as long as its caller, a test or a
    fixture with a scope. ``cache="key"`` keeps the prepared machine on this host for later runs: it
    is prepared again if the key, the machine's hardware or image, the code of ``prepare``, or the
    files and directories in ``depends`` change. If ``prepare`` fails, the report of the first test
    has its commands and the console, and the reports of other tests refer to it.

    Example::

        @pytest.fixture(scope="session")
        def seeded(core_vm_snapshot):
            return core_vm_snapshot(lambda vm: vm.push("seed.sql", "/srv/"))

        def test_seed(seeded) -> None:
            assert seeded().exec("ls /srv").stdout == "seed.sql\n"
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return required_session(request).prepare


@pytest.fixture(scope="session")
def core_vm_image(request: pytest.FixtureRequest) -> Callable[..., Bootable]:
    """Makes an image once, which any test then boots by ``image=``.
    Needs ``pytest --core-vm``; without that, the tests are skipped.
    ``core_vm_image("debian:12", packages=["curl"], suite=, arch=)`` returns it, with its disk,
    kernel, memory and processor: from the cache, or made there, without root. The first argument
    is a path or an address: ``debian``, ``debian:12``, ``oci:nginx:1.27``, ``host``, or the name
    of an image that ``core-infra image build`` has made. ``dataclasses.replace(image,
    memory=2048)`` is the same image for larger machines, and ``core_vm_snapshot(prepare,
    image=image)`` prepares one for all tests.

    Example::

        @pytest.fixture(scope="session", params=["debian:12", "debian:13"])
        def distribution(request, core_vm_image):
            return core_vm_image(request.param, packages=["nginx-light"])

        def test_nginx(distribution, core_vm_factory) -> None:
            core_vm_factory(image=distribution).wait_for_port(80)
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return required_session(request).make_image


def required_session(request: pytest.FixtureRequest) -> VmSession:
    """The plugin that runs machines; without ``--core-vm``, the test is skipped."""
    session = session_of(request.config)
    if session is None:  # requested by a name that was unknown when tests were collected
        pytest.skip(SKIP_REASON)
    return session


def session_of(config: pytest.Config) -> VmSession | None:
    """The plugin that runs machines; None without ``--core-vm``."""
    session: VmSession | None = config.pluginmanager.get_plugin(SESSION)
    return session
