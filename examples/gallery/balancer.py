"""nginx before two servers: one of them dies, and visitors do not notice.

Made of Debian packages: the first run installs them in a machine, which takes minutes without KVM.
``pytest --core-vm examples/gallery/balancer.py``
"""

from collections.abc import Callable

import pytest

from core_infra.vm import Cluster

BACKEND = """\
server { listen 80; location / { return 200 "%s\\n"; } }
"""
BALANCER = """\
upstream shop { server one max_fails=1 fail_timeout=60s; server two max_fails=1 fail_timeout=60s; }
server { listen 80; location / { proxy_pass http://shop; proxy_connect_timeout 1s; } }
"""
SITE = "/etc/nginx/sites-enabled/default"


@pytest.fixture(scope="session")
def shop(core_vm_cluster: Callable[..., Callable[..., Cluster]]) -> Callable[..., Cluster]:
    def prepare(cluster: Cluster) -> None:
        cluster.add_network()
        for name in ("one", "two", "front"):
            cluster.add_machine(name, packages=["nginx-light", "curl"])
        for name in ("one", "two"):
            cluster[name].write_text(SITE, BACKEND % name)
        cluster["front"].write_text(SITE, BALANCER)
        for machine in cluster:
            machine.exec("nginx -t && systemctl restart nginx", check=True)
            machine.wait_for_port(80)

    return core_vm_cluster(prepare)


def visits(cluster: Cluster, number: int = 6) -> list[str]:
    command = f"for i in $(seq {number}); do curl -fsS http://127.0.0.1/; done"
    return cluster["front"].exec(command, check=True).stdout.split()


def test_both_servers_get_visitors(shop: Callable[..., Cluster]) -> None:
    assert set(visits(shop())) == {"one", "two"}


def test_a_dead_server_is_not_noticed(shop: Callable[..., Cluster]) -> None:
    cluster = shop()
    cluster["one"].power_cut()
    assert set(visits(cluster)) == {"two"}


def test_a_server_behind_a_cut_cable_is_not_noticed(shop: Callable[..., Cluster]) -> None:
    cluster = shop()
    with cluster.network.cut("front", "two"):
        assert set(visits(cluster)) == {"one"}
