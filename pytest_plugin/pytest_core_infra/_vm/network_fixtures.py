"""The fixtures ``core_network…``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_core_infra._vm.fixtures import SKIP_REASON, session_of

if TYPE_CHECKING:
    from pytest_core_infra._vm.networks import NetworkFactory


@pytest.fixture
def core_network(request: pytest.FixtureRequest) -> NetworkFactory:
    """Makes networks between the machines of the test, with faults on request.
    Needs ``pytest --core-vm``; without that, the test is skipped.
    ``core_network(subnet="10.9.0.0/24", name=, outside=, seed=)`` returns a network; each argument
    is optional. ``core_vm_factory(name="a", networks=[net])`` starts a machine on it. Machines
    reach each other by name. ``net.link(a, b, delay=0.1, loss=0.3, rate="1mbit")`` makes a link
    slow or unreliable, ``net.cut(a, b, one_way=True)``, ``net.partition([a], [b, c])`` and
    ``net.isolate(a)`` cut machines off, ``net.drop(lambda frame: frame.tcp_port == 80)`` drops
    frames; each lasts until the end of its ``with`` block, or until ``net.heal()``.
    ``net.pcap(path)`` writes all frames to a file, ``net.expose("10.9.0.1:5432",
    "127.0.0.1:5432")`` leads machines to a server of this host, and ``outside=True`` to the world.

    Example::

        def test_retry(core_network, core_vm_factory) -> None:
            net = core_network()
            client = core_vm_factory(name="client", networks=[net])
            server = core_vm_factory(name="server", networks=[net])
            with net.cut(client, server):
                assert client.exec("ping -c 1 -W 1 server").exit_code != 0
            client.exec("ping -c 1 server", check=True)
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    session = session_of(request.config)
    if session is None:
        pytest.skip(SKIP_REASON)
    return session.networks(request.node)


@pytest.fixture(scope="class")
def core_network_class(request: pytest.FixtureRequest) -> NetworkFactory:
    """Makes networks for a class as ``core_network`` does for a test; after each test its faults
    are healed.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return _shared(request)


@pytest.fixture(scope="module")
def core_network_module(request: pytest.FixtureRequest) -> NetworkFactory:
    """Makes networks for a module as ``core_network`` does for a test; after each test its faults
    are healed.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return _shared(request)


@pytest.fixture(scope="session")
def core_network_session(request: pytest.FixtureRequest) -> NetworkFactory:
    """Makes networks for the whole run as ``core_network`` does for a test; after each test its
    faults are healed.
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return _shared(request)


def _shared(request: pytest.FixtureRequest) -> NetworkFactory:
    session = session_of(request.config)
    if session is None:
        pytest.skip(SKIP_REASON)
    return session.shared_networks(request)
