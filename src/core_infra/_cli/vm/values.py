"""Parses the values of --port and --volume."""

from __future__ import annotations

import math
from typing import Any

import click

from core_infra.vm._manager.record import LOOPBACK, Port, Volume

HIGHEST = 65535


class Seconds(click.FloatRange):
    """A number of seconds, not negative. NaN compares as neither too small nor too large."""

    def __init__(self) -> None:
        super().__init__(0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse it; a usage error if it is not such a number."""
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return found


def named_user(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty name, such as that of an unset variable; it would mean root."""
    if value == "":
        raise click.BadParameter("it is empty; leave the option out for the default user")
    return value


_PORT = "[[ADDRESS:][HOST]:]GUEST[/udp]"
_VOLUME = "DIRECTORY:PATH[:ro]"


def ports(values: tuple[str, ...]) -> list[Port]:
    """Parse ports to forward, in the form of docker's --publish."""
    found: list[Port] = []
    for value in values:
        port = _port(value)
        taken = [(one.address, one.host, one.udp) for one in found if one.host]
        if (port.address, port.host, port.udp) in taken:
            raise click.BadParameter(f"port {port.host} is given twice")
        found.append(port)
    return found


def volumes(values: tuple[str, ...]) -> list[Volume]:
    """Parse directories and files of this host, each with its path in the machine.

    The machine's path begins at the last ``:/``, so a path of this host may contain a colon. A path
    of the machine cannot: options follow its colon.
    """
    found = []
    for value in values:
        source, colon, rest = value.rpartition(":/")
        if not colon:
            source, colon, rest = value.partition(":")
        place, more, options = rest.partition(":")
        if not source or not place:
            raise click.BadParameter(f"{value!r} is not of the form {_VOLUME}")
        given = options.split(",") if more else []
        for option in given:
            if option not in ("ro", "rw"):
                raise click.BadParameter(
                    f"{option!r} of {value!r} is not an option of a volume: use ro or rw. "
                    "A path of the machine cannot have a colon here."
                )
        if {"ro", "rw"} <= {*given}:
            raise click.BadParameter(f"{value!r} cannot be both ro and rw")
        place = f"/{place}" if colon == ":/" else place
        found.append(Volume(path=source, place=place, read_only="ro" in given))
    return found


def _port(value: str) -> Port:
    body, slash, kind = value.partition("/")
    if slash and kind not in ("tcp", "udp"):
        raise click.BadParameter(f"{kind!r} of {value!r} is not a protocol: use tcp or udp")
    if body.startswith("["):
        address, closed, body = body[1:].partition("]:")
        parts = [address, *body.split(":")]
        if not closed or len(parts) != _ALL:
            raise click.BadParameter(f"{value!r} is not of the form {_PORT}")
    else:
        parts = body.split(":")
    if len(parts) > _ALL:
        raise click.BadParameter(f"{value!r} is not of the form {_PORT}: an IPv6 address is in []")
    address, host, guest = ["", "", *parts][-_ALL:]
    if len(parts) == _ALL - 1 and not host:
        raise click.BadParameter(f"{value!r} is not of the form {_PORT}")
    return Port(
        guest=_number(guest),
        host=_number(host) if host else 0,
        address=address or LOOPBACK,
        udp=kind == "udp",
        chosen=not host,
    )


_ALL = 3


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= HIGHEST:
        raise click.BadParameter(f"{text!r} is not a port: use 1 to {HIGHEST}")
    return int(text)
