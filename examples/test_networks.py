"""A network that fails, and a cluster that each test gets a copy of."""

from collections.abc import Callable

import pytest

from core_infra.vm import Cluster
from pytest_core_infra.plugin import MachineFactory, NetworkFactory


def test_a_cut_network(core_network: NetworkFactory, core_vm_factory: MachineFactory) -> None:
    net = core_network()
    client = core_vm_factory(name="client", networks=[net])
    core_vm_factory(name="server", networks=[net])
    with net.cut("client", "server"):
        assert client.exec("ping -c 1 -W 1 server").exit_code != 0
    client.exec("ping -c 1 server", check=True)


@pytest.fixture(scope="session")
def pair(core_vm_cluster: Callable[..., Callable[..., Cluster]]) -> Callable[..., Cluster]:
    def prepare(cluster: Cluster) -> None:
        cluster.add_network()
        a, b = cluster.add_machine("a"), cluster.add_machine("b")
        b.exec("sh -c 'sleep 1000 | nc -l -p 5000 >/tmp/lines' >/dev/null 2>&1 &", check=True)
        b.wait_for_port(5000)
        a.exec("sh -c 'while :; do date; sleep 0.1; done | nc b 5000' >/dev/null 2>&1 &")

    return core_vm_cluster(prepare)


@pytest.mark.parametrize("copy", [1, 2])
def test_the_connection_lives_in_each_copy(pair: Callable[..., Cluster], copy: int) -> None:
    server = pair()["b"]
    before = len(server.read_text("/tmp/lines").splitlines())
    server.wait_until_succeeds(f"[ $(wc -l </tmp/lines) -gt {before + copy} ]")
