"""A session with the agent of a clone, right after it was resumed from a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_infra.vm.guest.protocol import ProtocolError

if TYPE_CHECKING:
    from core_infra.vm.guest.protocol import HelloAck


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a clone's agent answered, and when.

    Attributes:
        ack: its ``info`` has ``former``, ``random`` and ``clock``, the proofs of a good clone.
        sent_ns: the host's wall clock when the greeting, with that time in it, was sent.
        received_ns: the host's wall clock when the answer had come.
    """

    ack: HelloAck
    sent_ns: int
    received_ns: int

    @property
    def clock_error_ns(self) -> int:
        """The most that the guest's wall clock can be off the host's.

        The guest read its clock at an unknown moment between *sent* and *received*; so this is
        never less than half of the time that passed between them.

        Raises:
            ProtocolError: the agent told no time.
        """
        told = self.ack.info.get("clock", "")
        if not (told.isascii() and told.isdigit()):
            raise ProtocolError(f"the guest agent told {told!r} as its clock")
        return max(int(told) - self.sent_ns, self.received_ns - int(told))
