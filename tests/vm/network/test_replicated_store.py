"""Three nodes of etcd as one prepared cluster: each test breaks a copy of its own."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core_infra.vm import Cluster, Launcher, Machine, PreparedCluster

pytestmark = pytest.mark.soak

NODES = ("a", "b", "c")
ADDRESSES = {name: f"10.9.0.{number}" for number, name in enumerate(NODES, 11)}
PEERS = ",".join(f"{name}=http://{address}:2380" for name, address in ADDRESSES.items())
CLIENT = "ETCDCTL_API=3 etcdctl --endpoints=http://127.0.0.1:2379 --command-timeout=20s"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The programs of Debian's packages, and the libraries that they need."""
    work = tmp_path_factory.mktemp("etcd")
    names = ["etcd-server", "etcd-client"]
    subprocess.run(["apt-get", "download", "-q", *names], cwd=work, check=True, capture_output=True)
    for package in work.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, work], check=True)
    etcd = work / "usr/bin/etcd"
    listed = subprocess.run(["ldd", etcd], capture_output=True, text=True, check=False).stdout
    libraries = [Path(path) for path in re.findall(r"(/\S+)", listed)]
    return [etcd, work / "usr/bin/etcdctl", *libraries]


@pytest.fixture(scope="module")
def store(launcher: Launcher, programs: list[Path]) -> Iterator[PreparedCluster]:
    def prepare(cluster: Cluster) -> None:
        net = cluster.add_network("10.9.0.0/24")
        etcd, etcdctl, *libraries = programs
        for name, address in ADDRESSES.items():
            machine = cluster.add_machine(name, networks=[net.at(address)], memory=512)
            machine.push(etcd, "/usr/bin/etcd")
            machine.push(etcdctl, "/usr/bin/etcdctl")
            for library in libraries:
                machine.exec(["mkdir", "-p", str(library.parent)], check=True)
                machine.push(library.resolve(), str(library))
            machine.exec(start_command(name, address, "new"), check=True)
        for machine in cluster:
            machine.wait_until_succeeds(f"{CLIENT} endpoint health", timeout=120)
        put(cluster["a"], "prepared", "yes")

    prepared = launcher.prepare_cluster(prepare)
    yield prepared
    prepared.close()


def start_command(name: str, address: str, state: str) -> str:
    # Emulated machines on a busy host answer late: the times are ten times the usual ones.
    return (
        f"setsid etcd --name {name} --data-dir /var/lib/etcd --heartbeat-interval 500 "
        f"--election-timeout 5000 --initial-cluster {PEERS} --initial-cluster-state {state} "
        f"--listen-peer-urls http://0.0.0.0:2380 --listen-client-urls http://0.0.0.0:2379 "
        f"--initial-advertise-peer-urls http://{address}:2380 "
        f"--advertise-client-urls http://{address}:2379 >/var/log/etcd.log 2>&1 &"
    )


def put(machine: Machine, key: str, value: str) -> None:
    machine.wait_until_succeeds(f"{CLIENT} put {key} {value}", timeout=120)


def get(machine: Machine, key: str, *, consistency: str = "l") -> str:
    command = f"{CLIENT} get --consistency={consistency} --print-value-only {key}"
    return machine.wait_until_succeeds(command, timeout=120).stdout.strip()


def leader(machine: Machine) -> str:
    """The name of the node that this one takes for the leader; empty if there is none."""
    text = machine.exec(f"{CLIENT} endpoint status -w json", check=True).stdout
    wanted = json.loads(text)[0]["Status"].get("leader")
    members = json.loads(machine.exec(f"{CLIENT} member list -w json", check=True).stdout)
    names = [one["name"] for one in members["members"] if one["ID"] == wanted]
    return names[0] if names else ""


def kill(cluster: Cluster, name: str) -> None:
    cluster[name].exec("kill -9 $(pidof etcd)", check=True)


def isolate(cluster: Cluster, name: str) -> None:
    cluster.network.isolate(name)


def suspend(cluster: Cluster, name: str) -> None:
    cluster[name].exec("kill -STOP $(pidof etcd)", check=True)


@pytest.mark.parametrize("fault", [kill, isolate, suspend])
def test_the_others_elect_a_new_leader(
    store: PreparedCluster, fault: Callable[[Cluster, str], None]
) -> None:
    with store.copy() as cluster:
        former = leader(cluster["a"])
        fault(cluster, former)
        rest = [cluster[name] for name in NODES if name != former]
        put(rest[0], "after", "failover")
        assert get(rest[1], "after") == "failover"
        assert leader(rest[0]) not in ("", former)
        assert get(rest[1], "prepared") == "yes"


def test_an_isolated_leader_accepts_no_writes_and_catches_up(store: PreparedCluster) -> None:
    with store.copy() as cluster:
        former = leader(cluster["a"])
        other = next(cluster[name] for name in NODES if name != former)
        with cluster.network.isolate(former):
            put(other, "key", "new")
            refused = cluster[former].exec(f"{CLIENT} --command-timeout=3s put key old")
            assert refused.exit_code != 0
        cluster[former].wait_until_succeeds(
            f"{CLIENT} get --consistency=s --print-value-only key | grep -x new", timeout=120
        )


@pytest.mark.parametrize("number", range(50))
def test_no_copy_sees_what_another_has_written(store: PreparedCluster, number: int) -> None:
    with store.copy() as cluster:
        machine = cluster[NODES[number % 3]]
        assert get(machine, "number") == ""
        put(machine, "number", str(number))
        assert get(cluster[NODES[(number + 1) % 3]], "number") == str(number)
