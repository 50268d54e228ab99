"""Networks between real machines: names, addresses, cuts, and what passes."""

import contextlib
import ipaddress
import os
import re
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core_infra.errors import AlreadyExistsError, InvalidError, NotFoundError, WrongStateError
from core_infra.testing import Nemesis
from core_infra.vm import Frame, HostFullError, Launcher, Machine, Network
from vm.network.conftest import Pair, reaches


def test_machines_reach_each_other_by_name_and_by_both_addresses(pair: Pair) -> None:
    net, a, b = pair
    for target in ("b", "ip6-b", net.address(b), net.address6("b")):
        assert reaches(a, target), target
    assert reaches(b, "a")
    assert net.machines == ["a", "b"]


def test_a_cut_lasts_for_its_block_and_one_way_is_one_way(pair: Pair) -> None:
    net, a, b = pair
    with net.cut(a, b) as cut:
        assert net.active_faults() == ["cut a - b"]
        assert not reaches(a, "b")
    assert reaches(a, "b")
    cut.heal()  # a second time: nothing happens

    def received() -> int:
        text = b.exec("cat /sys/class/net/eth1/statistics/rx_packets", check=True).stdout
        return int(text)

    with net.cut("b", "a", one_way=True):
        before = received()
        assert not reaches(a, "b")
        assert received() > before  # the question has arrived, the answer has not


def test_the_latest_of_overlapping_faults_counts_until_it_is_healed(pair: Pair) -> None:
    net, a, b = pair
    with net.isolate(a):
        inner = net.cut(a, b)
        inner.heal()
        assert not reaches(a, "b")
    net.isolate(a)
    net.partition([a], [b])
    net.heal()
    assert net.faults == []
    assert reaches(a, "b")


def test_a_delay_is_added_in_each_direction(pair: Pair) -> None:
    net, a, b = pair
    assert reaches(a, "b")  # nobody asks for addresses meanwhile
    with net.link(a, b, delay=0.05, jitter=0.01):
        text = a.exec("ping -c 4 -i 0.1 b", check=True).stdout
    shortest = min(float(ms) for ms in re.findall(r"time=([\d.]+)", text))
    assert shortest >= 80


def test_frames_are_dropped_by_what_they_are(pair: Pair) -> None:
    net, a, b = pair
    seen: list[Frame] = []

    def telnet(frame: Frame) -> bool:
        seen.append(frame)
        return frame.tcp_port == 23

    with b.stream("while :; do echo hi | nc -l -p 23; done"), net.drop(telnet):
        b.wait_for_port(23)
        assert a.exec("nc -w 1 b 23 </dev/null").exit_code != 0
        assert reaches(a, "b")
        net.heal()
        a.wait_until_succeeds("nc -w 1 b 23 </dev/null | grep hi")
    (first, *_) = [frame for frame in seen if frame.tcp_port == 23]
    assert first.source == "a"
    assert (first.source_ip, first.destination_ip) == (net.address(a), net.address(b))
    assert first.protocol == "tcp"


def test_an_error_of_a_function_that_chooses_frames_is_raised(pair: Pair) -> None:
    net, a, _b = pair
    fault = net.drop(lambda frame: frame.no_such_field)  # type: ignore[attr-defined] # that is the point
    assert reaches(a, "b")
    with pytest.raises(AttributeError, match="no_such_field"):
        fault.heal()
    fault.heal()  # reported once
    with pytest.raises(ZeroDivisionError) as raised, net.drop(lambda frame: frame.no_such_field):  # type: ignore[attr-defined] # the same
        reaches(a, "b") and 1 / 0  # the test's own failure is not hidden
    assert "no_such_field" in raised.value.__notes__[0]


def test_a_capture_that_cannot_be_is_one_error_and_the_network_goes_on(
    pair: Pair, tmp_path: Path
) -> None:
    net, a, _b = pair
    capture = net.pcap("/dev/full")
    assert reaches(a, "b")
    with pytest.raises(HostFullError, match="/dev/full does not have all frames of the network"):
        capture.close()
    capture.close()
    assert reaches(a, "b")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidError, match="it is a fifo"):
        net.pcap(tmp_path / "fifo")
    with pytest.raises(InvalidError, match=r"cannot write the frames .* No such file"):
        net.pcap("/no/such/directory/frames.pcapng")


def test_all_frames_are_captured_with_the_fate_of_lost_ones(pair: Pair, tmp_path: Path) -> None:
    net, a, b = pair
    path = tmp_path / "frames.pcapng"
    with net.pcap(path):
        assert reaches(a, "b")
        with pytest.raises(WrongStateError, match="they are written to"):
            net.pcap(tmp_path / "another")
        with net.cut(a, b):
            assert not reaches(a, "b")
    size = path.stat().st_size
    assert reaches(a, "b")
    assert path.stat().st_size == size
    data = path.read_bytes()
    assert data.startswith(b"\x0a\x0d\x0d\x0a")
    assert b"cut to b" in data
    # An independent reader: tcpdump is in every Debian, but not on every host.
    if subprocess.run(["which", "tcpdump"], check=False, capture_output=True).returncode == 0:
        shown = subprocess.run(
            ["tcpdump", "-nr", path], check=True, capture_output=True, text=True
        ).stdout
        assert f"{net.address(a)} > {net.address(b)}: ICMP echo request" in shown


def test_a_reverted_machine_is_on_its_networks_again(pair: Pair) -> None:
    _net, a, b = pair
    b.snapshot("here")
    b.revert("here")
    assert reaches(a, "b")
    b.revert()
    assert reaches(a, "b")
    assert reaches(b, "a")  # whose name it got after its start


def test_three_machines_two_networks_and_a_router(launcher: Launcher) -> None:
    with (
        launcher.network("10.20.0.0/24") as left,
        launcher.network("10.30.0.0/24") as right,
        launcher.clone(name="router", networks=[left.at("10.20.0.9"), right]) as router,
        launcher.clone(name="inner", networks=[left]) as inner,
        launcher.clone(name="outer", networks=[right]) as outer,
    ):
        router.exec("echo 1 >/proc/sys/net/ipv4/ip_forward", check=True)
        inner.exec("ip route add 10.30.0.0/24 via 10.20.0.9", check=True)
        outer.exec(f"ip route add 10.20.0.0/24 via {right.address(router)}", check=True)
        assert reaches(inner, "router")
        assert reaches(inner, right.address(outer))
        with right.cut(router, outer):
            assert not reaches(inner, right.address(outer))
            assert reaches(inner, "router")
        for machine in (router, inner, outer):
            launcher.discard(machine)


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        (lambda net: net.cut("a", "z"), NotFoundError, "z is not on the network"),
        (lambda net: net.cut("a", "a"), InvalidError, "itself"),
        (lambda net: net.link("a", "b", loss=2), InvalidError, "loss=2"),
        (lambda net: net.link("a", "b", delay=-1), InvalidError, "delay=-1"),
        (lambda net: net.link("a", "b", delay=True), InvalidError, "delay=True"),
        (lambda net: net.link("a", "b", rate="fast"), InvalidError, "rate='fast'"),
        (lambda net: net.link("a", "b", rate=10**400), InvalidError, "rate=1000"),
        (lambda net: net.cut("a", "b", one_way="no"), InvalidError, "one_way='no'"),
        (lambda net: net.cut("a", "b@other"), NotFoundError, "b@other is not on the network"),
        (lambda net: net.isolate(""), InvalidError, "'' is not a machine"),
        (lambda net: net.isolate("\ud800"), InvalidError, "is not a machine"),
        (lambda net: net.partition(["a", "b"]), InvalidError, "two or more groups"),
        (lambda net: net.partition(["a"], ["b", "a"]), InvalidError, "a is named twice"),
        (lambda net: net.partition("a", "z"), NotFoundError, "z is not on the network"),
        (lambda net: net.partition(["a"], None), InvalidError, "None is not a machine"),
        (lambda net: net.cut("a", 5), InvalidError, "5 is not a machine"),
        (lambda net: net.isolate(net), InvalidError, "is not a machine"),
        (lambda net: net.address(None), InvalidError, "None is not a machine"),
        (lambda net: net.pcap(None), InvalidError, "cannot write frames to None"),
        (lambda net: net.pcap("a\0b"), InvalidError, "null byte"),
        (lambda net: net.at(""), InvalidError, "cannot use ''"),
        (lambda net: net.drop(23), InvalidError, "by 23"),
        (lambda net: net.expose("10.1.1.1:5", "127.0.0.1:5"), InvalidError, "not the address"),
        (lambda net: net.expose("10.1.1.1", "127.0.0.1:5"), InvalidError, "an address and a TCP"),
        (
            lambda net: net.expose("[10.1.1.1:5", "127.0.0.1:5"),
            InvalidError,
            "an address and a TCP",
        ),
    ],
)
def test_wrong_use_is_one_clear_error(
    pair: Pair, wrong: Callable[[Network], object], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=re.escape(says)):
        wrong(pair.net)
    assert pair.net.faults == []


def test_wrong_networks_of_a_machine_are_errors(launcher: Launcher, pair: Pair) -> None:
    net = pair.net

    def start(name: str, *networks: object) -> Machine:
        return launcher.clone(name=name, networks=networks)  # type: ignore[arg-type] # wrong ones, too

    with pytest.raises(AlreadyExistsError, match="machine a has that name"):
        start("A", net)
    with pytest.raises(InvalidError, match=r"192\.168\.1\.1.*subnet") as error:
        start("c", net.at("192.168.1.1"))
    assert "10.9" in str(error.value)
    with pytest.raises(InvalidError, match="another machine has it"):
        start("c", net.at(net.address("b")))
    with pytest.raises(InvalidError, match="twice"):
        start("c", net, net)
    with pytest.raises(InvalidError, match="not a network"):
        start("c", "net")
    with launcher.network("10.9.0.0/16") as large, pytest.raises(InvalidError, match="overlap"):
        start("c", net, large)
    with pytest.raises(InvalidError, match="reserved"):
        start("c", net.at("10.9.0.1"))
    with pytest.raises(InvalidError, match="the name of the gateway"):
        start("outside", net)
    with pytest.raises(InvalidError, match="cannot put a machine on the networks"):
        launcher.clone(name="c", networks=net)  # type: ignore[arg-type] # wrong
    with pytest.raises(InvalidError, match="cannot put a machine on the networks 'net1'"):
        launcher.clone(name="c", networks="net1")  # type: ignore[arg-type] # wrong
    for wrong in ({"name": ""}, {"name": "a\nb"}, {"name": 5}, {"seed": "x"}, {"outside": "no"}):
        with pytest.raises(InvalidError, match=r"name a network|seed=|outside="):
            launcher.network(**wrong)
    for subnet in (
        *("10.9.0.0/30", "10.9.0.7/24", "x", "fd00::/64", "127.1.0.0/16", "10.0.2.0/24"),
        *("224.0.0.0/24", "0.0.0.0/24", "0.0.0.0/0", "126.0.0.0/7"),
    ):
        with pytest.raises(InvalidError, match=f"cannot use '?{re.escape(subnet)}'? as a subnet"):
            launcher.network(subnet)
    assert net.machines == ["a", "b"]


def test_a_stopped_machine_is_off_its_networks(launcher: Launcher, pair: Pair) -> None:
    net, a, b = pair
    c = launcher.clone(name="c", networks=[net])
    assert reaches(a, "c")
    launcher.discard(c)
    with pytest.raises(NotFoundError, match=r"c is not on the network .* stopped"):
        net.cut(a, c)
    with pytest.raises(NotFoundError, match=r"c is not on the network .* stopped"):
        net.isolate("c")
    with pytest.raises(InvalidError, match=r"cannot separate .* machine c was stopped"):
        Nemesis([c], [net]).isolate("c")
    assert net.machines == ["a", "b"]
    assert reaches(a, net.address(b))


def test_a_closed_network_says_so(launcher: Launcher) -> None:
    net = launcher.network()
    net.close()
    net.close()
    for use in (
        lambda: launcher.clone(name="d", networks=[net]),
        lambda: net.cut("a", "b"),
        lambda: net.drop(lambda _frame: True),
        lambda: net.pcap("frames"),
        lambda: net.expose("10.9.0.1:80", "127.0.0.1:80"),
    ):
        with pytest.raises(WrongStateError, match="was closed"):
            use()
    net.heal()
    ended = Launcher()
    ended.close()
    with pytest.raises(WrongStateError, match="the launcher was closed"):
        ended.network()


@contextlib.contextmanager
def server(answer: bytes) -> Iterator[int]:
    """A server of this host on the loopback address, that sends a text; yields its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as tcp:
        thread = threading.Thread(target=tcp.serve_forever)
        thread.start()
        yield tcp.server_address[1]
        tcp.shutdown()
        thread.join()


def test_machines_reach_exposed_servers_of_this_host_and_nothing_else(pair: Pair) -> None:
    net, a, b = pair
    with server(b"hello\n") as port, server(b"hidden\n") as other:
        host = str(ipaddress.ip_network(net.subnet)[1])
        net.expose(f"{host}:5432", f"127.0.0.1:{port}")
        for machine in (a, b, a):
            machine.wait_until_succeeds(f"nc -w 5 {host} 5432 </dev/null | grep hello")
        for target in (host, "10.0.2.2", str(ipaddress.ip_network(net.subnet)[-2])):
            assert a.exec(f"nc -w 1 {target} {other} </dev/null").stdout == ""
        with net.cut("outside", a):
            assert a.exec(f"nc -w 1 {host} 5432 </dev/null").stdout == ""
            assert b.exec(f"nc -w 5 {host} 5432 </dev/null").stdout == "hello\n"


def test_a_network_that_leads_outside(launcher: Launcher) -> None:
    with (
        launcher.network(outside=True) as net,
        launcher.clone(name="traveller", networks=[net]) as a,
        server(b"hello\n") as port,
    ):
        gateway = str(ipaddress.ip_network(net.subnet)[-2])
        assert f"default via {gateway}" in a.exec("ip route").stdout
        assert "nameserver 10.9" in a.read_text("/etc/resolv.conf")
        # What this host can always reach is itself.
        a.wait_until_succeeds(f"nc -w 5 {gateway} {port} </dev/null | grep hello")
        launcher.discard(a)
