"""Put a machine to sleep so that it can be saved, and prove of each clone that it is right.

A clone is handed out only when all of this holds, and is ended otherwise:

- it is the saved machine that goes on, and not one that has booted: its agent knows the session
  before this one, which only the saved memory tells;
- its random generator is its own: reseeded from the host before any process of the guest runs, and
  the first bytes drawn after that were drawn by no other clone;
- its clock is the host's, within :data:`CLOCK_LIMIT_NS`;
- its host name, machine id and network address are its own.
"""

from __future__ import annotations

import re
import secrets
import threading
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import TimeoutExpiredError, UnavailableError
from core_infra.vm._guest.guest import Guest

if TYPE_CHECKING:
    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._guest.protocol import HelloAck
    from core_infra.vm._vmm_process import VmmProcess


CLOCK_LIMIT_NS = 50_000_000
"""Nanoseconds that a clone's clock may differ from the host's."""


class CloneError(UnavailableError):
    """A clone is not what it must be, and was not handed out."""


class CloneVerifier:
    """Wakes clones, and remembers what must not come twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn: set[str] = set()

    def wake(self, instance: VmmProcess, *, name: str, nonce: str, limit: float) -> HelloAck:
        """Let a clone go on, make it a machine of its own, and prove that.

        Args:
            instance: the clone, still stopped.
            name: the machine's.
            nonce: of the agent's last session before it was put to sleep.
            limit: seconds that it may take to answer.

        Raises:
            CloneError: a proof failed.
            TimeoutExpiredError: it does not answer.
        """
        instance.qmp.post("cont")
        deadline = time.monotonic() + limit
        while True:
            resumed = instance.agent.resume(
                hostname=host_name(name),
                machine_id=secrets.token_hex(16),
                mac=b"\x52\x54\x00" + secrets.token_bytes(3),  # QEMU's own prefix
                timeout=limit,
            )
            self._prove(resumed.ack, nonce)
            if resumed.clock_error_ns <= CLOCK_LIMIT_NS:
                return resumed.ack
            if time.monotonic() > deadline:
                raise CloneError(
                    "a clone's clock cannot be set",
                    why=f"after {limit:.0f} s it may still be {resumed.clock_error_ns / 1e9:.3f} s "
                    "off the host's",
                    todo="Is this host very busy?",
                )
            # On a busy host an answer takes longer than the clock may be off: ask again.
            nonce = instance.agent.nonce  # the session that the next one will know

    def _prove(self, ack: HelloAck, nonce: str) -> None:
        former, drawn = ack.info.get("former", ""), ack.info.get("random", "")
        if former != nonce:
            raise CloneError(
                "a clone does not remember what it was saved with",
                why=f"its agent's last session was {former or 'none'}, not {nonce}: it has booted",
            )
        with self._lock:
            if not drawn or drawn in self._drawn:
                raise CloneError(
                    "a clone draws the random bytes of another",
                    why=f"it drew {drawn or 'nothing'} after it was given entropy of its own",
                )
            self._drawn.add(drawn)


def sleep(instance: VmmProcess, limit: float) -> str:
    """Put a running machine to sleep: its processes, then its processors.

    Returns:
        The nonce of its agent's session, for the proof that a clone remembers it.

    Raises:
        CoreInfraError: its guest cannot be put to sleep; it goes on running.
    """
    try:
        instance.agent.freeze(limit)
    except TimeoutExpiredError as error:
        raise TimeoutExpiredError(
            f"machine {instance.spec.name} was not put to sleep within {limit:.0f} s",
            why="its agent does not answer: was it stopped, or is the guest very busy?",
            timeout=limit,
        ) from error
    instance.qmp.execute("stop")
    return instance.agent.nonce


def rouse(instance: VmmProcess, limit: float) -> None:
    """Let the machine that was put to sleep go on as itself, in the session that it had."""
    instance.qmp.execute("cont")
    instance.agent.set_clock(time.time_ns(), limit)
    instance.agent.thaw(timeout=limit)


def host_name(name: str) -> str:
    """A machine's name as a host's (RFC 1123): letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63] or "machine"


_WARM_UP = """\
echo hi; cat /etc/hostname; ls / >/dev/null; ps >/dev/null; mkdir -p /tmp/.warm; cd /tmp/.warm
echo x >a; grep -q x a && sed s/x/y/ a >b; cp b c; mv c d; [ -f d ] && test "$(cat d)" = y
sleep 0.01 & wait; id -u; uname -a; head -c 100 /dev/zero | wc -c; cd /; rm -r /tmp/.warm
"""
_ROUNDS = 3


class AgentGuest(Guest):
    """The inside of a machine that nobody holds yet."""

    def __init__(self, agent: AgentClient) -> None:
        super().__init__()
        self._agent = agent

    @property
    def agent(self) -> AgentClient:
        """The connection to the agent."""
        return self._agent


def warm_up(instance: VmmProcess, *, rounds: int = _ROUNDS) -> None:
    """Run in a guest what tests do first."""
    guest = AgentGuest(instance.agent)
    for _ in range(rounds):
        guest.exec(_WARM_UP, check=True)
        guest.write_text("/root/.warm", "x")
        guest.read_text("/root/.warm")
        guest.exec(["rm", "/root/.warm"])
