"""Networks between machines, as users hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from core_infra._unpatched import Path
from core_infra.errors import InvalidError
from core_infra.vm._fault import end_block
from core_infra.vm._hardware import check_switch
from core_infra.vm._names import name_of, several
from core_infra.vm._network.faults import NetworkFault
from core_infra.vm._network.lan import OUTSIDE, Lan
from core_infra.vm._network.link_settings import LinkSettings, bits_per_second

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from core_infra.vm._fault import Fault
    from core_infra.vm._machine import Machine
    from core_infra.vm._network.frame import Frame
    from core_infra.vm._network.member import Member


@dataclass(frozen=True, slots=True)
class NetworkAddress:
    """An address on a network, for a machine that is to be started: see :meth:`Network.at`.

    Attributes:
        network: the network.
        address: the IPv4 address; empty: a free one.
    """

    network: Network
    address: str


class Network:
    """A network between machines, made by :meth:`Launcher.network` or the fixture ``core_network``.

    Machines join it when they start (``networks=[net]``) and leave it when they are stopped. Their
    names resolve on it, and each has an IPv4 and an IPv6 address. Frames pass through a process of
    the host, so faults need nothing in the guests, are exact, and may differ by direction. A fault
    is a context manager that ends with its block; :meth:`heal` ends all. Machines can be given as
    such or by their names.
    """

    def __init__(self, lan: Lan) -> None:
        self._lan = lan

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self._lan.name

    @property
    def subnet(self) -> str:
        """Its IPv4 addresses, such as ``10.9.0.0/24``."""
        return str(self._lan.subnet.ipv4)

    @property
    def machines(self) -> list[str]:
        """The names of the machines on it."""
        return [member.name for member in self._lan.members()]

    def at(self, address: str) -> NetworkAddress:
        """An address for a machine: ``networks=[net.at("10.9.0.20")]``.

        Raises:
            InvalidError: machines on the network cannot have it.
        """
        return NetworkAddress(self, str(self._lan.subnet.checked(address)))

    def address(self, machine: Machine | str) -> str:
        """The IPv4 address of a machine on it."""
        return str(self._member(machine).address)

    def address6(self, machine: Machine | str) -> str:
        """The IPv6 address of a machine on it."""
        return str(self._lan.subnet.ipv6_of(self._member(machine).address))

    # Faults.

    def link(
        self,
        a: Machine | str,
        b: Machine | str,
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        rate: str | int | None = None,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        corrupt: float = 0.0,
        one_way: bool = False,
    ) -> Fault:
        """Make the link between two machines slow, or unreliable, until the fault is healed.

        Of several faults of one link, the last one counts. Which frames are hit depends on the
        network's seed and on their number on the link alone, so it is the same in each run.

        Args:
            a: a machine.
            b: another machine.
            delay: seconds, in each direction.
            jitter: seconds by which the delay varies, up and down. It does not reorder frames.
            loss: the share of frames that are lost, from 0 to 1.
            rate: bits in a second, such as ``1mbit``; at most half a second of frames is queued.
            duplicate: the share that arrives twice.
            reorder: the share that the next frame overtakes.
            corrupt: the share in which a bit behind the Ethernet header is flipped.
            one_way: only for frames from *a* to *b*.

        Raises:
            InvalidError: a value is not possible.
            NotFoundError: a machine is not on the network.
        """
        settings = LinkSettings(
            delay, jitter, loss, bits_per_second(rate), duplicate, reorder, corrupt
        ).checked()
        pairs, text = self._pairs(a, b, one_way=one_way)
        text = f"link {text}: {settings}".removesuffix(": ")
        return self._begin(text, links=dict.fromkeys(pairs, settings))

    def cut(self, a: Machine | str, b: Machine | str, *, one_way: bool = False) -> Fault:
        """Let nothing pass between two machines; *one_way*: nothing from *a* to *b*.

        Raises:
            NotFoundError: a machine is not on the network.
        """
        pairs, text = self._pairs(a, b, one_way=one_way)
        return self._begin(f"cut {text}", cuts=lambda *pair: pair in pairs)

    def partition(self, *groups: Iterable[Machine | str]) -> Fault:
        """Let nothing pass between groups of machines: ``net.partition([a], [b, c])``.

        Machines of no group still reach all others.

        Args:
            groups: machines, or their names; a single machine is a group of one.

        Raises:
            InvalidError: there are fewer than two groups, or a machine is in two of them.
            NotFoundError: a machine is not on the network.
        """
        found = [[self._name(one) for one in several(group)] for group in groups]
        side = {name: number for number, group in enumerate(found) for name in group}
        if len(found) < 2 or not all(found):  # noqa: PLR2004 - a partition has two sides
            raise InvalidError(
                f"cannot partition the network {self._lan.name}",
                why="it takes two or more groups, none of them empty",
                todo="For example partition([a], [b, c]); isolate(a) cuts one off from all.",
            )
        if len(side) < sum(map(len, found)):
            twice = next(name for name in side if sum(group.count(name) for group in found) > 1)
            raise InvalidError(
                f"cannot partition the network {self._lan.name}", why=f"{twice} is named twice"
            )

        def cuts(source: str, target: str) -> bool:
            return source in side and target in side and side[source] != side[target]

        text = "partition " + " | ".join(" ".join(group) for group in found)
        return self._begin(text, cuts=cuts)

    def isolate(self, machine: Machine | str) -> Fault:
        """Let nothing pass between one machine and all others, those that join later, too.

        Raises:
            NotFoundError: the machine is not on the network.
        """
        name = self._name(machine)
        return self._begin(f"isolate {name}", cuts=lambda *pair: name in pair)

    def drop(self, predicate: Callable[[Frame], object]) -> Fault:
        """Drop the frames for which *predicate(frame)* is true, until the fault is healed.

        It is called on a thread of its own, for each frame that a machine sends, in order. While it
        is at work, frames of this network wait: up to 64 of them, and then the machines, which see
        a busy network. No frame is lost for it, and other networks do not wait. Frames that wait
        when the fault is healed pass. An error that it raises lets the frame pass, and the first
        one is raised when the fault is healed::

            with net.drop(lambda frame: frame.tcp_port == 2380):
                ...
        """
        if not callable(predicate):
            raise InvalidError(
                f"cannot drop frames by {predicate!r}",
                todo="Give a function of a frame, such as lambda frame: frame.tcp_port == 80.",
            )
        name = getattr(predicate, "__qualname__", repr(predicate))
        return self._begin(f"drop frames by {name}", drops=predicate)

    def heal(self) -> None:
        """End all faults.

        Raises:
            Exception: the first error that a function of :meth:`drop` has raised.
        """
        self._lan.heal()

    @property
    def faults(self) -> list[Fault]:
        """The faults that are active, oldest first."""
        return list(self._lan.faults)

    def active_faults(self) -> list[str]:
        """A line for each fault that is active, oldest first."""
        return [fault.description for fault in self._lan.faults]

    def last_faults(self) -> list[Fault]:
        """The last faults, active or not, newest last."""
        return list(self._lan.history)

    # What passes, and the world outside.

    def pcap(self, path: str | os.PathLike[str]) -> Capture:
        """Write all frames to a file that Wireshark and tcpdump read, until it is closed.

        The format is pcapng. Each card is an interface with the machine's name, and a frame that a
        fault has hit has a comment. The file is complete at any moment. If it cannot hold all
        frames, it ends with the last one that it has room for; then its end raises HostFullError.

        Raises:
            InvalidError: there can be no such file.
            WrongStateError: the network's frames are written to a file already.
        """
        try:
            target = Path(path)
        except TypeError as error:
            raise InvalidError(f"cannot write frames to {path!r}", why=str(error)) from error
        self._lan.capture(target)
        return Capture(target, self._lan.end_capture)

    @property
    def capture(self) -> Path | None:
        """The file that all frames are written to now; None: no file."""
        return self._lan.captured

    def expose(self, inside: str, outside: str) -> None:
        """Let machines reach a server of this host.

        Each connection of a guest to *inside* becomes one of this host to *outside*. Do it before
        machines connect: connections to other exposed servers are lost.

        Args:
            inside: the address and the TCP port that machines connect to. The address is
                the network's first one: ``10.9.0.1:5432``.
            outside: the server's address and port: ``127.0.0.1:5432``.

        Raises:
            InvalidError: an address is not possible.
        """
        self._lan.require_open()
        self._lan.gateway.expose(inside, outside)

    def close(self) -> None:
        """Remove it; machines on it run on, and reach nothing there."""
        self._lan.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Network {self.name} {self.subnet}: {', '.join(self.machines) or 'empty'}>"

    def _begin(self, description: str, **effect: Any) -> Fault:
        fault = NetworkFault(description, self._lan, **effect)
        self._lan.begin(fault)
        return fault

    def _member(self, machine: Machine | str) -> Member:
        name_of(machine)  # which raises, if it has none
        if isinstance(machine, str):
            return self._lan.member(machine, by_name=True)
        status = machine.status.value
        return self._lan.member(machine.name, "" if status == "running" else status)

    def _name(self, machine: Machine | str) -> str:
        return OUTSIDE if machine == OUTSIDE else self._member(machine).name

    def _pairs(
        self, a: Machine | str, b: Machine | str, *, one_way: bool
    ) -> tuple[list[tuple[str, str]], str]:
        """The senders and receivers of a fault of two machines, and a text for reports."""
        check_switch("one_way", one_way)
        first, second = self._name(a), self._name(b)
        if first == second:
            raise InvalidError(
                f"cannot hurt the link between {first} and itself",
                why="what a machine sends to itself does not pass through the network",
            )
        if one_way:
            return [(first, second)], f"{first} -> {second}"
        return [(first, second), (second, first)], f"{first} - {second}"


class Capture:
    """A file that a network's frames are written to; as a context manager, until its end.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, end: Callable[[Path], None]) -> None:
        self.path = path
        self._end = end

    def close(self) -> None:
        """Write no more.

        Raises:
            HostFullError: the file does not have all frames, since its disk is full.
        """
        self._end(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        end_block(self.close, error)


def lan_of(network: Network) -> Lan:
    """The network as the launcher has it."""
    return network._lan  # noqa: SLF001 - of the class above: users do not see it
