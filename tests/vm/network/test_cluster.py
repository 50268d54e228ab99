"""Clusters that are copied whole: connections, frames under way, names, snapshots."""

import re
from collections.abc import Iterator

import pytest

from core_infra.errors import AlreadyExistsError, InvalidError, NotFoundError, WrongStateError
from core_infra.vm import Cluster, Launcher, Machine, MachineStateError, PreparedCluster
from vm.network.conftest import reaches

# A line for each number, over one connection that stays.
LISTEN = "sh -c 'sleep 1000 | nc -l -p 5000 >/tmp/got' >/dev/null 2>&1 &"
COUNT = (
    "sh -c 'i=0; while :; do echo $i; i=$((i+1)); sleep 0.005; done | nc b 5000' >/dev/null 2>&1 &"
)


def received(machine: Machine) -> list[int]:
    """The numbers that have arrived, without a half one."""
    return [
        int(line)
        for line in machine.read_text("/tmp/got").splitlines(keepends=True)
        if line.endswith("\n")
    ]


def continues(machine: Machine, after: int) -> None:
    """Wait until more numbers have arrived, and check that none is missing or there twice."""
    machine.wait_until_succeeds(f"[ $(wc -l </tmp/got) -gt {after + 20} ]")
    numbers = received(machine)
    assert numbers == list(range(len(numbers)))


def datagrams_continue(machine: Machine) -> None:
    """The same for datagrams, without those that the guest had no room for.

    Ping has a receive buffer of 7 KiB, which a burst of answers fills while ping does not run.
    """
    before = len(answered(machine))
    machine.wait_until_succeeds(f"[ $(wc -l </tmp/pings) -gt {before + 20} ]")
    numbers = answered(machine)
    dropped = int(machine.read_text("/proc/net/raw").split()[-1])
    assert numbers == sorted(set(numbers))
    assert numbers[-1] + 1 - len(numbers) <= dropped


def answered(machine: Machine) -> list[int]:
    """The numbers of the datagrams that were answered."""
    return [
        int(number) for number in re.findall(r"seq=(\d+) .*\n", machine.read_text("/tmp/pings"))
    ]


def prepare(cluster: Cluster) -> None:
    cluster.add_network(seed=7)
    a, b = cluster.add_machine("a"), cluster.add_machine("b")
    b.exec(LISTEN, check=True)
    b.wait_for_port(5000)
    a.exec(COUNT, check=True)
    a.exec("sh -c 'ping -i 0.01 b >/tmp/pings' >/dev/null 2>&1 &", check=True)
    b.wait_until_succeeds("[ -s /tmp/got ]")


@pytest.fixture(scope="module")
def prepared(launcher: Launcher) -> Iterator[PreparedCluster]:
    prepared = launcher.prepare_cluster(prepare)
    yield prepared
    prepared.close()


def test_a_connection_continues_in_each_copy(prepared: PreparedCluster) -> None:
    with prepared.copy("one") as one, prepared.copy() as two:
        for cluster in (one, two):
            continues(cluster["b"], len(received(cluster["b"])))
            datagrams_continue(cluster["a"])
        assert [machine.name for machine in one] == ["a@one", "b@one"]
        assert one["a"].exec("hostname").stdout == "a\n"
        assert one.network.address("a") == two.network.address("a")
        with one.network.cut(one["a"], one["b"]):  # the other copy's network is another one
            assert not reaches(one["a"], "b")
            assert reaches(two["a"], "b")
        assert reaches(one["a"], "b")
        with pytest.raises(NotFoundError, match="a@one is not on the network net1: these are: a@"):
            two.network.isolate(one["a"])


def test_frames_under_way_arrive_in_the_copy(prepared: PreparedCluster) -> None:
    with prepared.copy() as cluster:
        a, b = cluster
        with cluster.network.link(a, b, delay=0.5, one_way=True):
            a.exec("ping -c 1 -W 30 b >/tmp/ping 2>&1 &", check=True)
            a.wait_until_succeeds("grep -q PING /tmp/ping")  # it has sent, or is about to
            cluster.snapshot("sent")
            cluster.revert("sent")
        a.wait_until_succeeds("grep -q ' 0% packet loss' /tmp/ping", timeout=10)


def test_a_cluster_is_reverted_together(prepared: PreparedCluster) -> None:
    with prepared.copy() as cluster:
        a, b = cluster
        port = b.port(5000)
        cluster.snapshot("here")
        a.exec("touch /tmp/later", check=True)
        b.exec("touch /tmp/later", check=True)
        cluster.revert("here")
        for machine in cluster:
            assert machine.exec("ls /tmp/later").exit_code != 0
        assert b.port(5000) == port
        continues(b, len(received(b)))
        cluster.revert()
        continues(b, len(received(b)))
        with pytest.raises(InvalidError, match=r"cannot name a snapshot \[\]"):
            cluster.revert([])  # type: ignore[arg-type] # wrong
        with pytest.raises(NotFoundError, match=r"no snapshot 'there'.*'here'"):
            cluster.revert("there")
        with a.pause(), pytest.raises(MachineStateError, match="it is paused"):
            cluster.snapshot("paused")


def test_a_node_joins_a_copy(prepared: PreparedCluster) -> None:
    with prepared.copy() as cluster:
        c = cluster.add_machine("c")
        assert reaches(cluster["a"], "c")
        assert reaches(c, "b")
        net = cluster.add_network(name="later")
        cluster.revert()
        for source, target in ((cluster["a"], "c"), (c, "b")):
            assert reaches(source, target)
        assert net.machines == []
        with pytest.raises(AlreadyExistsError, match="'c'"):
            cluster.add_machine("c")
        with pytest.raises(NotFoundError, match=r"no machine 'd'.*a, b, c"):
            cluster["d"]
        with pytest.raises(InvalidError, match="cannot name a machine of a cluster ''"):
            cluster.add_machine("")
        cluster.network.close()
        with pytest.raises(WrongStateError, match="the network net1 was closed"):
            cluster.revert()
        with pytest.raises(WrongStateError, match="the network net1 was closed"):
            cluster.snapshot("later")
        c.exec("true", check=True)
    for name in ("", "a@b", 5):
        with pytest.raises(InvalidError, match=f"cannot name a cluster {name!r}"):
            prepared.copy(name)  # type: ignore[arg-type] # wrong
    for add in (cluster.add_network, lambda: cluster.add_machine("d")):
        with pytest.raises(WrongStateError, match="was stopped"):
            add()


def test_a_copy_outlives_its_preparation_without_an_initial_state(launcher: Launcher) -> None:
    def add(cluster: Cluster) -> None:
        cluster.add_network()
        cluster.add_machine("a")

    prepared = launcher.prepare_cluster(add)
    with prepared.copy() as cluster:
        prepared.close()
        for one in (cluster, cluster["a"]):
            with pytest.raises(NotFoundError, match=r"no initial state .* was closed"):
                one.revert()
        cluster["a"].exec("true", check=True)


def test_a_failed_preparation_leaves_nothing(launcher: Launcher) -> None:
    def fail(cluster: Cluster) -> None:
        cluster.add_network()
        cluster.add_machine("a")
        raise LookupError("on purpose")

    failed: list[str] = []
    with pytest.raises(LookupError):
        launcher.prepare_cluster(
            fail, on_failure=lambda cluster, _error: failed.extend(cluster.machines)
        )
    assert failed == ["a"]
    with pytest.raises(InvalidError, match="without machines"):
        launcher.prepare_cluster(lambda _cluster: None)
    with pytest.raises(InvalidError, match="it is not a function"):
        launcher.prepare_cluster("a, b")  # type: ignore[arg-type] # wrong
    with pytest.raises(InvalidError, match="on_failure=5"):
        launcher.prepare_cluster(fail, on_failure=5)  # type: ignore[arg-type] # wrong
    assert launcher.leaks() == []


@pytest.mark.soak
def test_streams_lose_and_double_nothing_in_200_copies(prepared: PreparedCluster) -> None:
    for _ in range(200):
        with prepared.copy() as cluster:
            b = cluster["b"]
            before = received(b)
            assert before == list(range(len(before)))
            continues(b, len(before))
            datagrams_continue(cluster["a"])
