"""The state of a network: its machines, its faults, its gateway, what is captured."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

from core_infra._unpatched import os
from core_infra.errors import (
    AlreadyExistsError,
    CoreInfraError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from core_infra.vm._free_space import HostFullError, described
from core_infra.vm._guest.guest import Guest
from core_infra.vm._names import host_name, plain_name
from core_infra.vm._network.active_faults import ActiveFaults
from core_infra.vm._network.gateway import Gateway
from core_infra.vm._network.member import Member
from core_infra.vm._network.under_way import FrameUnderWay, pack, unpack

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from core_infra.vm._fault import Fault
    from core_infra.vm._network.addresses import Subnet
    from core_infra.vm._network.faults import NetworkFault
    from core_infra.vm._network.switch import Switch
    from core_infra.vm._network.under_way import Frames

_REMEMBERED = 50
OUTSIDE = "outside"
"""The name of the gateway in faults."""


class Lan:
    """A network as the launcher has it; users hold a :class:`~core_infra.vm.Network`.

    Args:
        switch: what moves its frames.
        subnet: its addresses.
        name: its name.
        outside: machines can reach the world outside.
        seed: decides which frames are hit.
        directory: makes a directory for the gateway's files.

    Attributes:
        name: the same.
        subnet: the same.
        outside: the same.
        seed: the same.
        switch: the same.
        number: its number in the switch.
        gateway: what connects it with this host.
        captured: the file that its frames are written to; None: no file.
        history: the last faults, active or not, newest last.
        is_closed: whether it was closed.
    """

    def __init__(
        self,
        switch: Switch,
        subnet: Subnet,
        *,
        name: str,
        outside: bool,
        seed: int,
        directory: Callable[[], Path],
    ) -> None:
        self.name = name
        self.subnet = subnet
        self.outside = outside
        self.seed = seed
        self.switch = switch
        self.number = switch.new_network()
        self.captured: Path | None = None
        self.is_closed = False
        self.gateway = Gateway(subnet, self._connect_gateway, directory, outside=outside)
        self._members: dict[str, Member] = {}
        self._left: set[str] = set()  # the names of machines that have ended
        self.history: deque[NetworkFault] = deque(maxlen=_REMEMBERED)
        self._faults = ActiveFaults(switch, self.number, seed)
        self._lock = threading.RLock()
        if outside:
            self.gateway.start()

    @property
    def faults(self) -> list[NetworkFault]:
        """The faults that are active, oldest first."""
        return list(self._faults.all)

    def members(self) -> list[Member]:
        """The machines on it."""
        return list(self._members.values())

    def join(self, name: str, card: int, address: str | None = None) -> Member:
        """Give a machine that is about to start an address.

        Raises:
            InvalidError: the address is not possible.
            AlreadyExistsError: another machine on the network has that name.
            WrongStateError: the network was closed.
        """
        full, name, host = name, plain_name(name), host_name(name)
        with self._lock:
            self.require_open()
            if name == OUTSIDE:
                raise InvalidError(
                    f"cannot add machine {name} to the network {self.name}",
                    why="that is the name of the gateway in faults",
                )
            for other in self.members():
                if host == other.host or name == other.name:
                    raise AlreadyExistsError(
                        f"cannot add machine {name} to the network {self.name}",
                        why=f"machine {other.name} has that name there",
                        todo="Each machine on a network needs a name of its own.",
                    )
            used = {other.address for other in self.members()}
            chosen = (
                self.subnet.free(used) if address is None else self.subnet.checked(address, used)
            )
            member = Member(name, full, host, self.switch.new_port(), chosen, card)
            self._members[name] = member
            return member

    def connect(self, member: Member, card: socket.socket) -> None:
        """Connect a member's card with a process of its machine; takes the socket."""
        with self._lock:
            if self.is_closed:
                card.close()
                return
            self.switch.open(self.number, member.port, member.name, card)
            self._faults.add_port(member.name, member.port)

    def leave(self, member: Member) -> None:
        """A machine has ended."""
        with self._lock:
            if self._members.get(member.name) is member:
                del self._members[member.name]
                self._left |= {member.name, member.machine}
                self._faults.remove_port(member.name)
                if not self.is_closed:
                    with contextlib.suppress(CoreInfraError):  # the switch has ended, too
                        self.switch.close_port(self.number, member.port)

    def add_names(self, member: Member) -> None:
        """Give a machine the names of all others on its networks."""
        agent = member.agent()
        if agent is not None:
            with contextlib.suppress(CoreInfraError):  # it is ending, or will be greeted again
                agent.set_cards([], member.hosts())

    def set_name_server(self, member: Member) -> None:
        """Let a machine ask the name server of a network that leads outside."""
        agent = member.agent()
        if agent is not None:
            text = f"nameserver {self.subnet.name_server}\n"
            Guest(lambda: agent).write_text("/etc/resolv.conf", text)

    def close(self) -> None:
        """Remove it; machines on it run on, and reach nothing there.

        Raises:
            Exception: an error of a function that chooses frames, or of the file of frames.
        """
        with self._lock, contextlib.ExitStack() as ending:
            if self.is_closed:
                return
            self.is_closed = True
            for fault in self.faults:
                ending.callback(fault.raise_error)
            if self.captured is not None:
                ending.callback(self._end_capture, self.captured)
            self.gateway.stop()
            self._members.clear()
            with contextlib.suppress(UnavailableError):  # the switch has ended
                self._faults.clear()
            ending.callback(self._remove)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within the block frames are kept, and the time of their delays stands still."""
        if self.is_closed:
            yield
            return
        self.switch.hold(self.number, on=True)
        try:
            yield
        finally:
            self.switch.hold(self.number, on=False)

    def unread(self) -> int:
        """More than 0 while machines have not read all that was delivered to them."""
        return 0 if self.is_closed else self.switch.unread(self.number)

    def frames_under_way(self, unread: Mapping[tuple[str, int], list[bytes]]) -> Frames:
        """The frames that machines have sent and that have not arrived; the network is held.

        Args:
            unread: what was delivered to a machine's card and not read, by name and card.
        """
        if self.is_closed:
            return ()
        self.switch.drain(self.number)
        names = {member.port: member.name for member in self.members()}
        delivered = (
            FrameUnderWay("", member.name, 0, frame)
            for member in self.members()
            for frame in unread.get((member.name, member.card), ())
        )
        return (*delivered, *unpack(self.switch.dump(self.number), names))

    def clear(self) -> None:
        """Lose the frames that are under way: its machines are about to be reverted."""
        for member in self.members():
            self.switch.close_port(self.number, member.port)
            self._faults.remove_port(member.name)

    def add_frames(self, frames: Frames) -> None:
        """Let frames be under way; the network is held."""
        cards = {member.name: member.port for member in self.members()}
        self.switch.load(self.number, pack(frames, cards))

    def begin(self, fault: NetworkFault) -> None:
        """Start a fault."""
        with self._lock:
            self.require_open()
            self._faults.add(fault)
            self.history.append(fault)

    def has(self, fault: Fault) -> bool:
        """Whether a fault is active."""
        return fault in self._faults.all

    def end(self, fault: Fault) -> None:
        """End a fault, if it is active."""
        with self._lock:
            self._faults.remove(fault)

    def heal(self) -> None:
        """End all faults; raises the first error of a function that chooses frames."""
        with self._lock, contextlib.ExitStack() as raising:
            for fault in reversed(self.faults):
                raising.callback(fault.raise_error)
            self._faults.clear()

    def capture(self, path: Path) -> None:
        """Write all frames to a file."""
        with self._lock:
            self.require_open()
            if path.is_fifo():
                raise InvalidError(
                    f"cannot write the frames of the network {self.name} to {path}",
                    why="it is a fifo, whose reader could stop all networks",
                )
            if self.captured is not None:
                raise WrongStateError(
                    f"cannot write the frames of the network {self.name} to {path}",
                    why=f"they are written to {self.captured}",
                    needed="no capture",
                    found="a capture",
                )
            try:
                with path.open("wb") as file:
                    self.switch.capture(self.number, file.fileno())
            except (OSError, ValueError) as error:
                raise InvalidError(
                    f"cannot write the frames of the network {self.name} to {str(path)!r}",
                    why=getattr(error, "strerror", None) or str(error),
                ) from error
            self.captured = path

    def end_capture(self, path: Path) -> None:
        """Write no more frames to a file; raises HostFullError if it does not have all of them."""
        with self._lock:
            if self.captured == path and not self.is_closed:
                self._end_capture(path)

    def member(self, name: str, state: str = "", *, by_name: bool = False) -> Member:
        """A machine on it.

        Args:
            name: the machine's in its launcher.
            state: why it may not be there.
            by_name: its name in its cluster is enough; another cluster has machines of that name.

        Raises:
            NotFoundError: it is not on the network.
            WrongStateError: the network was closed.
        """
        self.require_open()
        member = self._members.get(plain_name(name))
        if member is not None and (name == member.machine or (by_name and name == member.name)):
            return member
        if not state and name in self._left:
            state = "stopped"
        known = ", ".join(member.machine for member in self.members()) or "none"
        raise NotFoundError(
            f"machine {name} is not on the network {self.name}",
            why=f"it is {state}" if state else f"these are: {known}",
            todo="" if state else "Start it with networks=[…].",
        )

    def require_open(self) -> None:
        """Raise WrongStateError if it was closed."""
        if self.is_closed:
            raise WrongStateError(
                f"the network {self.name} was closed", needed="open", found="closed"
            )

    def _connect_gateway(self, card: socket.socket) -> None:
        with self._lock:
            port = self.switch.new_port()
            self.switch.open(self.number, port, OUTSIDE, card)
            self._faults.add_port(OUTSIDE, port)

    def _end_capture(self, path: Path) -> None:
        self.captured = None
        number = self.switch.capture(self.number, None)
        if number:
            raise HostFullError(
                f"{path} does not have all frames of the network {self.name}",
                why=f"{os.strerror(number)}: {described(path.parent)}",
                todo="The frames before that can be read.",
            )

    def _remove(self) -> None:
        with contextlib.suppress(CoreInfraError):  # the switch has ended
            self.switch.remove(self.number)
