"""The fixtures ``core_network…`` and ``core_vm_cluster``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_core_infra._vm.fixtures import for_scope, required_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._cluster import Cluster
    from pytest_core_infra._vm.networks import NetworkFactory
    from pytest_core_infra._vm.session import VmSession


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
    return required_session(request).networks(request.node)


_SHARED = """Makes networks for SCOPE as ``core_network`` does for a test;
after each test, their faults are healed.
"""


def _shared_networks(session: VmSession, request: pytest.FixtureRequest) -> NetworkFactory:
    return session.shared_networks(request)


core_network_class = for_scope("class", _SHARED, _shared_networks)
core_network_module = for_scope("module", _SHARED, _shared_networks)
core_network_session = for_scope("session", _SHARED, _shared_networks)


@pytest.fixture(scope="session")
def core_vm_cluster(request: pytest.FixtureRequest) -> Callable[..., Callable[..., Cluster]]:
    """Prepares machines on networks of their own once, and gives each test a copy of all of them.
    Needs ``pytest --core-vm``; without that, the tests are skipped.
    ``core_vm_cluster(prepare)`` calls ``prepare`` with an empty cluster, which gets its networks
    by ``cluster.add_network(subnet=)`` and its machines by ``cluster.add_machine(name, memory=,
    networks=)``, and returns a function. Each call of it returns a cluster in the state at the end
    of the preparation: ``cluster["a"]`` is a machine, ``cluster.network`` its network. All machines
    are copied at one moment, with the connections between them. They have the same names and
    addresses in each copy, and do not reach those of other copies. ``cluster.snapshot(name)`` and
    ``cluster.revert(name)`` save and revert all of them.

    Example::

        @pytest.fixture(scope="session")
        def store(core_vm_cluster):
            def prepare(cluster):
                cluster.add_network()
                for name in ("a", "b", "c"):
                    cluster.add_machine(name).exec("start-the-store", check=True)
            return core_vm_cluster(prepare)

        def test_a_lost_node(store):
            cluster = store()
            with cluster.network.isolate("a"):
                cluster["b"].wait_until_succeeds("ask-the-store")
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    return required_session(request).prepare_cluster
