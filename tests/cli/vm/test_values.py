"""The forms of ports and volumes on the command line."""

from __future__ import annotations

import click
import pytest

from core_infra._cli.vm.values import Seconds, named_user, ports, volumes
from core_infra.vm._manager.record import Port, Volume


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", Port(guest=80, chosen=True)),
        ("8080:80", Port(guest=80, host=8080)),
        ("5353:53/udp", Port(guest=53, host=5353, udp=True)),
        ("53/tcp", Port(guest=53, chosen=True)),
        ("0.0.0.0:8080:80", Port(guest=80, host=8080, address="0.0.0.0")),  # noqa: S104 - asked for
        ("127.0.0.2::80", Port(guest=80, address="127.0.0.2", chosen=True)),
        ("[::1]:8080:80", Port(guest=80, host=8080, address="::1")),
    ],
)
def test_ports(text: str, port: Port) -> None:
    assert ports((text,)) == [port]


@pytest.mark.parametrize(
    "text", ["", ":80", "1:2:3:4", "80:", "a", "0", "65536", "80/", "[::1]:80", "[::1:80:80", "-1"]
)
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(click.BadParameter):
        ports((text,))


def test_one_port_leads_to_one_place_for_each_protocol_and_address() -> None:
    assert len(ports(("53:53", "53:53/udp", "127.0.0.2:53:53"))) == 3
    with pytest.raises(click.BadParameter, match="port 53 is given twice"):
        ports(("53:53/udp", "53:54/udp"))


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("/a:/b", Volume(path="/a", place="/b")),
        ("/a:/b:ro", Volume(path="/a", place="/b", read_only=True)),
        ("a:/b:rw", Volume(path="a", place="/b")),
        ("/a:b:/c:ro", Volume(path="/a:b", place="/c", read_only=True)),
        ("/a:/b:/c", Volume(path="/a:/b", place="/c")),
        ("a:b", Volume(path="a", place="b")),
    ],
)
def test_volumes(text: str, volume: Volume) -> None:
    assert volumes((text,)) == [volume]


@pytest.mark.parametrize("text", ["/a", "", ":/b", "/a:", "/a:/b:", "/a:/b:z", "/a:/b:ro:rw"])
def test_what_is_no_volume(text: str) -> None:
    with pytest.raises(click.BadParameter):
        volumes((text,))


@pytest.mark.parametrize("text", ["nan", "-1", "", "soon"])
def test_what_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Seconds().convert(text, None, None)


def test_an_unset_variable_is_not_the_name_of_a_user() -> None:
    context = click.Context(click.Command("exec"))
    option = click.Option(["--user"])
    assert named_user(context, option, "nobody") == "nobody"
    assert named_user(context, option, None) is None
    with pytest.raises(click.BadParameter, match="empty"):
        named_user(context, option, "")
