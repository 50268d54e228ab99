"""Failover: etcd, redis with sentinel, PostgreSQL with a standby; each test breaks its own copy.

Each cluster is prepared once: servers configured, replicas filled. A copy continues there, with all
connections, in a fraction of a second. The first run makes an image of Debian's packages and boots
it, which takes minutes without KVM. So this file is run by its name:
``pytest --core-vm examples/gallery/failover.py``.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from core_infra.testing import Nemesis
from core_infra.vm import Bootable, Cluster, Machine

Copies = Callable[[], Cluster]
Harm = Callable[[Nemesis], AbstractContextManager[object]]

HARMS = {
    "killed": lambda nemesis: nemesis.kill("leader"),
    "isolated": lambda nemesis: nemesis.isolate("leader"),
    "paused": lambda nemesis: nemesis.pause("leader"),
}
HOSTS = {"a": "10.9.0.11", "b": "10.9.0.12", "c": "10.9.0.13"}
COPIES = 12
SERVICES = "etcd redis-server redis-sentinel postgresql@*"


@pytest.fixture(scope="session")
def image(core_vm_image: Callable[..., Bootable]) -> Bootable:
    stores = ["etcd-server", "etcd-client", "postgresql", "redis-server", "redis-sentinel"]
    return core_vm_image(packages=stores)


def nodes(cluster: Cluster, image: Bootable, *names: str) -> Iterator[Machine]:
    """Machines with the packages, whose services do not run yet."""
    net = cluster.add_network("10.9.0.0/24")
    for name in names:
        machine = cluster.add_machine(name, image=image, networks=[net.at(HOSTS[name])])
        machine.exec(f"systemctl stop {SERVICES}", check=True)
        yield machine


# etcd: three members, which elect a leader. A write is acknowledged if two of them have it.

ETCDCTL = "ETCDCTL_API=3 etcdctl --command-timeout=20s"
MEMBERS = ",".join(f"{name}=http://{host}:2380" for name, host in HOSTS.items())
# Emulated machines on a busy host answer late: the times are five times the usual ones.
MEMBER = """\
ETCD_NAME={name}
ETCD_DATA_DIR=/var/lib/etcd/store
ETCD_HEARTBEAT_INTERVAL=500
ETCD_ELECTION_TIMEOUT=5000
ETCD_LISTEN_PEER_URLS=http://0.0.0.0:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://{host}:2380
ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379
ETCD_ADVERTISE_CLIENT_URLS=http://{host}:2379
ETCD_INITIAL_CLUSTER={members}
"""


@pytest.fixture(scope="session")
def etcd(core_vm_cluster: Callable[..., Copies], image: Bootable) -> Copies:
    def prepare(cluster: Cluster) -> None:
        for machine in nodes(cluster, image, *HOSTS):
            name = machine.name.partition("@")[0]
            settings = MEMBER.format(name=name, host=HOSTS[name], members=MEMBERS)
            machine.write_text("/etc/default/etcd", settings)
            # It is ready when the members have found each other.
            machine.exec("systemctl start --no-block etcd", check=True)
        for machine in cluster:
            machine.wait_until_succeeds(f"{ETCDCTL} endpoint health", timeout=120)

    return core_vm_cluster(prepare)


def put(machine: Machine, key: str, value: object) -> None:
    machine.wait_until_succeeds(f"{ETCDCTL} put {key} {value}", timeout=120)


def get(machine: Machine, key: str) -> str:
    asked = f"{ETCDCTL} get --print-value-only {key}"
    return machine.wait_until_succeeds(asked, timeout=120).stdout.strip()


def etcd_leader(machine: Machine) -> str:
    """The name of the node that a machine's member takes for the leader; empty if there is none."""
    status = machine.exec(f"{ETCDCTL} endpoint status -w json", check=True).stdout
    members = machine.exec(f"{ETCDCTL} member list -w json", check=True).stdout
    leader = json.loads(status)[0]["Status"].get("leader")
    names = {one["ID"]: one["name"] for one in json.loads(members)["members"]}
    return str(names.get(leader, ""))


@pytest.mark.parametrize("number", range(COPIES))
def test_each_copy_of_etcd_has_only_its_own_data(etcd: Copies, number: int) -> None:
    cluster = etcd()
    assert get(cluster["a"], "number") == ""
    put(cluster["b"], "number", number)
    assert get(cluster["c"], "number") == str(number)


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_members_elect_another_leader(etcd: Copies, harm: Harm) -> None:
    cluster = etcd()
    put(cluster["a"], "kept", "yes")
    former = etcd_leader(cluster["a"])
    one, other = (cluster[name] for name in HOSTS if name != former)
    with harm(Nemesis(cluster, roles={"leader": lambda: former})):
        put(one, "later", "yes")
        assert get(other, "kept") == "yes"
        assert etcd_leader(one) not in ("", former)
    # Back again, the former leader knows what it has missed.
    assert get(cluster[former], "later") == "yes"


def test_an_isolated_leader_acknowledges_nothing(etcd: Copies) -> None:
    cluster = etcd()
    leader = etcd_leader(cluster["a"])
    with cluster.network.isolate(leader):
        refused = cluster[leader].exec(f"{ETCDCTL} --command-timeout=3s put key value")
        assert refused.exit_code != 0


def test_a_member_that_was_off_catches_up(etcd: Copies) -> None:
    cluster = etcd()
    with Nemesis(cluster).kill("c"):
        put(cluster["a"], "missed", "yes")
    assert get(cluster["c"], "missed") == "yes"


# redis: three servers, each with a sentinel. Two sentinels that agree elect a new leader.

SENTINEL = """\
port 26379
bind 0.0.0.0
protected-mode no
sentinel monitor store 10.9.0.11 6379 2
sentinel down-after-milliseconds store 5000
sentinel failover-timeout store 20000
"""
ASK = "redis-cli -p 26379 sentinel get-master-addr-by-name store"


@pytest.fixture(scope="session")
def redis(core_vm_cluster: Callable[..., Copies], image: Bootable) -> Copies:
    def prepare(cluster: Cluster) -> None:
        for machine in nodes(cluster, image, "a", "b", "c"):
            reachable = "s/^bind .*/bind 0.0.0.0/; s/^protected-mode .*/protected-mode no/"
            machine.exec(["sed", "-i", reachable, "/etc/redis/redis.conf"], check=True)
            if machine is not cluster["a"]:
                machine.exec("echo replicaof 10.9.0.11 6379 >>/etc/redis/redis.conf", check=True)
            machine.write_text("/etc/redis/sentinel.conf", SENTINEL)
            machine.exec("chown redis: /etc/redis/sentinel.conf", check=True)
            machine.exec("systemctl start redis-server redis-sentinel", check=True)
            # The clock of a copy is the host's, so it jumps. A sentinel then does nothing for 30 s.
            machine.exec("redis-cli -p 26379 sentinel debug tilt-period 1000", check=True)
        cluster["a"].wait_until_succeeds("redis-cli wait 2 1000 | grep 2", timeout=120)
        for machine in cluster:
            knows = "redis-cli -p 26379 sentinel ckquorum store | grep '3 usable'"
            machine.wait_until_succeeds(knows, timeout=120)

    return core_vm_cluster(prepare)


def store(machine: Machine, key: str, value: object, *, replicas: int) -> None:
    """Write to redis, and wait until so many replicas have it."""
    lines = f"set {key} {value}\nwait {replicas} 60000\n"  # of the writes of one connection
    done, count = machine.exec("redis-cli", input=lines, check=True).stdout.split()
    assert done == "OK"
    assert int(count) >= replicas


def redis_leader(machine: Machine) -> str:
    """The name of the node that a machine's sentinel takes for the leader."""
    address = machine.exec(ASK, check=True).stdout.split()[0]
    return next(name for name, host in HOSTS.items() if host == address)


@pytest.mark.parametrize("number", range(COPIES))
def test_each_copy_of_redis_has_only_its_own_data(redis: Copies, number: int) -> None:
    cluster = redis()
    assert cluster["a"].exec("redis-cli dbsize", check=True).stdout == "0\n"
    store(cluster["a"], "number", number, replicas=2)
    for machine in cluster:
        assert machine.exec("redis-cli get number", check=True).stdout == f"{number}\n"


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_sentinels_elect_another_leader(redis: Copies, harm: Harm) -> None:
    cluster = redis()
    store(cluster["a"], "kept", "yes", replicas=2)
    nemesis = Nemesis(cluster, roles={"leader": lambda: redis_leader(cluster["b"])})
    with harm(nemesis):
        cluster["b"].wait_until_succeeds(f"{ASK} | grep -v {HOSTS['a']} | grep 10.9", timeout=120)
        leader = cluster[redis_leader(cluster["b"])]
        leader.wait_until_succeeds("redis-cli set later yes | grep OK", timeout=60)
        assert leader.exec("redis-cli get kept", check=True).stdout == "yes\n"
    # Back again, the former leader follows the new one.
    cluster["a"].wait_until_succeeds("redis-cli get later | grep yes", timeout=180)
    assert cluster["a"].exec("redis-cli role", check=True).stdout.startswith("slave\n")


def test_redis_works_without_a_follower(redis: Copies) -> None:
    cluster = redis()
    cluster["c"].power_cut()
    store(cluster["a"], "one", "more", replicas=1)
    assert redis_leader(cluster["b"]) == "a"


# PostgreSQL: a commit returns once the standby has it, so no failover loses one.


@pytest.fixture(scope="session")
def postgresql(core_vm_cluster: Callable[..., Copies], image: Bootable) -> Copies:
    def prepare(cluster: Cluster) -> None:
        a, b = nodes(cluster, image, "a", "b")
        version, name, *_ = a.exec("pg_lsclusters -h", check=True).stdout.split()
        start = f"systemctl start postgresql@{version}-{name}"
        data = f"/var/lib/postgresql/{version}/{name}"
        for machine in (a, b):
            config = f"/etc/postgresql/{version}/{name}"
            trust = "host all,replication all 10.9.0.0/24 trust"
            machine.exec(f"echo {trust} >>{config}/pg_hba.conf", check=True)
            machine.exec(f"echo \"listen_addresses = '*'\" >>{config}/postgresql.conf", check=True)
        a.exec(start, check=True)
        copy = f"pg_basebackup -h a -U postgres -D {data} -R -X stream -c fast"
        b.exec(f"rm -rf {data} && su postgres -c '{copy}'", check=True, timeout=300)
        b.exec(start, check=True)
        sql(a, "alter system set synchronous_standby_names = '*'")
        sql(a, "select pg_reload_conf()")
        sql(a, "create table orders (number int)")  # returns once the standby has it

    return core_vm_cluster(prepare)


PSQL = "psql -qAt -v ON_ERROR_STOP=1"


def sql(machine: Machine, statement: str) -> str:
    result = machine.exec([*PSQL.split(), "-c", statement], user="postgres", cwd="/", check=True)
    return result.stdout.strip()


@pytest.mark.parametrize("number", range(COPIES))
def test_each_copy_of_postgresql_has_only_its_own_data(postgresql: Copies, number: int) -> None:
    cluster = postgresql()
    sql(cluster["a"], f"insert into orders values ({number})")  # noqa: S608 - it is ours
    assert sql(cluster["a"], "select * from orders") == str(number)
    assert sql(cluster["b"], "select pg_is_in_recovery()") == "t"


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_the_standby_takes_over_with_all_that_was_committed(postgresql: Copies, harm: Harm) -> None:
    cluster = postgresql()
    sql(cluster["a"], "insert into orders select generate_series(1, 100)")
    with harm(Nemesis(cluster, roles={"leader": lambda: "a"})):
        assert sql(cluster["b"], "select pg_promote(wait_seconds => 300)") == "t"
        assert sql(cluster["b"], "select count(*) from orders") == "100"
        sql(cluster["b"], "insert into orders values (101)")


def test_nothing_is_committed_without_the_standby(postgresql: Copies) -> None:
    cluster = postgresql()
    with cluster.network.cut("a", "b"):
        insert = [*PSQL.split(), "-c", "insert into orders values (1)"]
        result = cluster["a"].exec(["timeout", "5", *insert], user="postgres", cwd="/")
        assert result.exit_code == 124, result
        assert sql(cluster["b"], "select count(*) from orders") == "0"


def test_a_standby_that_was_cut_off_catches_up(postgresql: Copies) -> None:
    cluster = postgresql()
    sql(cluster["a"], "alter system set synchronous_standby_names = ''")
    sql(cluster["a"], "select pg_reload_conf()")
    with cluster.network.isolate("b"):
        sql(cluster["a"], "insert into orders values (1)")
    read = "cd / && su postgres -c \"psql -qAt -c 'select count(*) from orders'\""
    cluster["b"].wait_until_succeeds(f"{read} | grep -x 1", timeout=120)
