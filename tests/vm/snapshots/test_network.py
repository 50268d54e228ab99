"""A clone's cards have addresses of their own, and whoever knew the former ones learns of it."""

import ipaddress
import socket
from collections.abc import Iterator

import pytest

from core_infra.vm import Launcher, Machine, _timeouts

SENT = "/sys/class/net/eth0/statistics/tx_packets"
ADDRESSES = "ip -o addr show eth0 | awk '{print $3, $4}'"


@pytest.fixture
def machine(launcher: Launcher) -> Iterator[Machine]:
    machine = launcher.clone()
    machine.exec("httpd -p 80 -h /etc && ping -c1 10.0.2.2", check=True)
    yield machine
    launcher.discard(machine)


def mac(machine: Machine) -> str:
    return machine.read_text("/sys/class/net/eth0/address").strip()


def fetch(machine: Machine) -> bytes:
    address = ("127.0.0.1", machine.port(80))
    with socket.create_connection(address, timeout=_timeouts.scaled(60)) as connection:
        connection.sendall(b"GET /passwd HTTP/1.0\r\n\r\n")
        return connection.recv(100)


def link_local(mac: str) -> str:
    """The IPv6 address that is made of a hardware address (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    half = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + half))


def test_the_new_address_is_announced(machine: Machine) -> None:
    sent, was = int(machine.read_text(SENT)), mac(machine)
    machine.snapshot("talked")
    machine.revert("talked")
    assert int(machine.read_text(SENT)) > sent, "before anybody has asked the guest for anything"
    assert mac(machine) != was
    assert fetch(machine).startswith(b"HTTP/1.1 200")
    settings = machine.exec("cat /proc/sys/net/ipv*/conf/*/*_notify").stdout.split()
    assert set(settings) == {"0"}, "it has left the guest's settings as they were"


def test_only_an_open_machine_reaches_the_outside(launcher: Launcher, machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        get = f"echo hi | nc -w 5 10.0.2.2 {server.getsockname()[1]}"
        assert machine.exec(get).exit_code != 0
        open_ones = [launcher.clone(network="nat") for _ in range(2)]
        for each in open_ones:
            with each.stream(get):
                connection, _ = server.accept()
                assert connection.recv(100) == b"hi\n"
                connection.close()
            launcher.discard(each)


def test_the_ipv6_addresses_follow(machine: Machine) -> None:
    machine.exec(
        "ip link set eth0 down; echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6;"
        " echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set eth0 up;"
        " ip addr add fec0::1234/64 dev eth0; ip addr del 10.0.2.15/24 dev eth0",
        check=True,
    )
    was = link_local(mac(machine))
    machine.wait_until_succeeds(f"ip -o addr show eth0 | grep {was}")
    machine.snapshot("six")
    machine.revert("six")
    addresses = machine.exec(ADDRESSES, check=True).stdout
    assert f"inet6 {link_local(mac(machine))}/64" in addresses
    assert was not in addresses
    assert "inet6 fec0::1234/64" in addresses, "an address that is not made of the card's stays"
    machine.exec("ping6 -c1 -I eth0 fe80::2", check=True)


def test_a_card_that_is_down_announces_itself_when_it_comes_up(machine: Machine) -> None:
    machine.exec("ip link set eth0 down", check=True)
    sent, was = int(machine.read_text(SENT)), mac(machine)
    machine.snapshot("down")
    machine.revert("down")
    assert mac(machine) != was
    machine.exec("ip link set eth0 up", check=True)
    assert int(machine.read_text(SENT)) > sent
    assert fetch(machine).startswith(b"HTTP/1.1 200")


def test_a_card_with_a_leased_address_keeps_its_own(machine: Machine) -> None:
    life = "valid_lft 86400 preferred_lft 3600"
    machine.exec(f"ip addr flush dev eth0; ip addr add 10.0.2.15/24 dev eth0 {life}", check=True)
    was = mac(machine)
    machine.snapshot("leased")
    machine.revert("leased")
    assert mac(machine) == was, "another one would be given another address by the DHCP server"
    assert fetch(machine).startswith(b"HTTP/1.1 200")


def test_a_bridge_follows_its_card(machine: Machine) -> None:
    machine.exec(
        "ip link add br0 type bridge && ip addr flush dev eth0 && ip link set eth0 master br0 &&"
        " ip link set br0 up && ip addr add 10.0.2.15/24 dev br0 && ping -c1 10.0.2.2",
        check=True,
    )
    machine.snapshot("bridged")
    machine.revert("bridged")
    assert machine.read_text("/sys/class/net/br0/address").strip() == mac(machine)
    assert fetch(machine).startswith(b"HTTP/1.1 200")


def test_the_name_in_etc_hosts_follows(machine: Machine) -> None:
    lines = f"127.0.1.1 {machine.name}.home {machine.name} # {machine.name}\n::1 {machine.name}\n"
    others = f"10.0.0.1 {machine.name}\n127.0.0.2 x{machine.name} {machine.name}x\n"
    machine.write_text("/etc/hosts", lines + others)
    machine._agent().freeze()
    machine._agent().thaw(hostname="a-longer-name")
    assert machine.read_text("/etc/hosts") == (
        f"127.0.1.1 a-longer-name.home a-longer-name # {machine.name}\n::1 a-longer-name\n{others}"
    )
