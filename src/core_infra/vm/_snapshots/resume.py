"""Quiesce a machine so that it can be saved; resume each clone as a machine of its own, verified.

A clone is handed out only if all of this holds, and is ended otherwise:

- it continues the saved machine, and has not booted: its agent knows the nonce of the session
  before this one, which only the saved memory has;
- its random generator is its own: reseeded from the host before any process of the guest runs, and
  no other clone drew the same first bytes after that;
- its clock is the host's, within :data:`CLOCK_LIMIT_NS`; with virtual time it was set, and goes on
  by itself;
- its host name, machine id and network address are its own.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import TimeoutExpiredError, UnavailableError
from core_infra.vm._guest import waiting
from core_infra.vm._guest.guest import Guest
from core_infra.vm._guest.results import GuestOperationError
from core_infra.vm._hardware import VIRTUAL
from core_infra.vm._images.image import Image
from core_infra.vm._names import host_name
from core_infra.vm._vmm_process import Identity

if TYPE_CHECKING:
    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._guest.protocol import HelloAck
    from core_infra.vm._guest.run_config import RunConfig
    from core_infra.vm._vmm_process import VmmProcess


RESUME_TIMEOUT = 2.0
"""Seconds, before scaling, that a clone may take to answer."""

CLOCK_LIMIT_NS = 50_000_000
"""Nanoseconds that a clone's clock may differ from the host's."""


class CloneError(UnavailableError):
    """A clone failed verification, and was not handed out."""


class CloneVerifier:
    """Resumes clones, and checks that no two of them draw the same random bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn: set[str] = set()

    def resume(
        self, process: VmmProcess, *, name: str, nonce: str, limit: float, cards: bytes = b""
    ) -> HelloAck:
        """Resume a clone, give it an identity of its own, and verify that.

        Args:
            process: the clone, still stopped.
            name: the machine's.
            nonce: that of the agent's last session before it was quiesced.
            limit: seconds that it may take to answer.
            cards: the setup of its cards on networks of the run; empty: as it is.

        Raises:
            CloneError: a check failed.
            TimeoutExpiredError: it does not answer.
        """
        process.qmp.post("cont")
        deadline = time.monotonic() + limit
        while True:
            mac = b"\x52\x54\x00" + secrets.token_bytes(3)  # QEMU's own prefix
            process.identity = Identity(host_name(name), secrets.token_hex(16), mac)
            resumed = process.agent.resume(**process.identity._asdict(), cards=cards, timeout=limit)
            self._verify(resumed.ack, nonce)
            if resumed.clock_error_ns <= CLOCK_LIMIT_NS or process.spec.time == VIRTUAL:
                return resumed.ack
            if time.monotonic() > deadline:
                raise CloneError(
                    "a clone's clock cannot be set",
                    why=f"after {limit:.0f} s it may still be {resumed.clock_error_ns / 1e9:.3f} s "
                    "off the host's",
                    todo="Is this host very busy?",
                )
            # On a busy host an answer takes longer than the clock may be off: ask again.
            nonce = process.agent.nonce  # the session that the next one will know

    def _verify(self, ack: HelloAck, nonce: str) -> None:
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


def quiesce(process: VmmProcess, limit: float) -> str:
    """Stop a running machine for a snapshot: its processes, then its processors.

    Returns:
        The nonce of its agent's session, by which a clone is verified.

    Raises:
        CoreInfraError: its guest cannot be quiesced; it continues to run.
    """
    freeze_processes(process, limit)
    process.qmp.execute("stop")
    return process.agent.nonce


def freeze_processes(process: VmmProcess, limit: float) -> None:
    """Stop the processes of a running machine's guest; its kernel runs on.

    Raises:
        CoreInfraError: they cannot be stopped; they continue to run.
    """
    try:
        process.agent.freeze(limit)
    except TimeoutExpiredError as error:
        raise TimeoutExpiredError(
            f"machine {process.spec.name} was not quiesced within {limit:.0f} s",
            why="its agent does not answer: was it stopped, or is the guest very busy?",
            timeout=limit,
        ) from error


def unquiesce(process: VmmProcess, limit: float) -> None:
    """Let a machine that was quiesced continue as itself, in the session that it had."""
    process.qmp.execute("cont")
    if process.spec.time != VIRTUAL:  # that stood still with the machine
        process.agent.set_clock(process.clock.at(time.time_ns()), limit)
    process.agent.thaw(timeout=limit)


_WARM_UP = """\
echo hi; cat /etc/hostname; ls / >/dev/null; ps >/dev/null; mkdir -p /tmp/.warm; cd /tmp/.warm
echo x >a; grep -q x a && sed s/x/y/ a >b; cp b c; mv c d; [ -f d ] && test "$(cat d)" = y
sleep 0.01 & wait; id -u; uname -a; head -c 100 /dev/zero | wc -c; cd /; rm -r /tmp/.warm
! command -v bash >/dev/null || bash -c :
"""
# The code that reads from a disk runs only if something is not cached: the programs' inodes, which
# looking for a program needs, and a file that the kernel drops from its cache.
_DISK = """\
[ -b /dev/vda ] || exit 0
ls -n /usr/bin /usr/sbin >/dev/null
dd if=/bin/ls of=/dev/null iflag=nocache count=0 2>/dev/null; cat /bin/ls >/dev/null
"""
_WARM_FILE = "/tmp/.warm"  # noqa: S108 - the guest's


class AgentGuest(Guest):
    """The inside of a machine that was not handed out yet."""

    def __init__(self, agent: AgentClient, run_config: RunConfig | None = None) -> None:
        super().__init__(lambda: agent, run_config=run_config)


def warm_up(process: VmmProcess) -> None:
    """Run in a guest what tests run first: under emulation, that code is translated then.

    Once: measured, further rounds take a fifth of a second and save a clone less than 1 ms.
    """
    image = process.spec.image
    guest = AgentGuest(process.agent)
    tests = AgentGuest(process.agent, image.run if isinstance(image, Image) else None)
    guest.exec(_DISK, env=waiting.OWN["env"])
    # As root, as it is by default; with a PATH that has these programs, whatever the image is.
    guest.exec(_WARM_UP, check=True, env=waiting.OWN["env"])
    guest.write_text(_WARM_FILE, "x")
    guest.read_text(_WARM_FILE)
    guest.exec(["rm", _WARM_FILE], env=waiting.OWN["env"])
    # As tests do: a directory of their PATH that is not cached would be read in each clone.
    for command in ("echo hi", ["echo", "hi"], ["true"]):
        with suppress(GuestOperationError):  # the image has no such program, directory or user
            tests.exec(command)


def settle(process: VmmProcess) -> None:
    """Have a guest that has just booted write to its disk what it has not yet written.

    A clone writes its new names to the disk as soon as it runs. If the file system had a
    transaction that is some seconds old, each clone would commit it then, by code that nothing has
    run before. A machine that a test suite has prepared is left as it is: what was not flushed
    there is lost in a power cut, and would be copied with the layer of each clone.
    """
    AgentGuest(process.agent).exec("[ ! -b /dev/vda ] || sync", env=waiting.OWN["env"])
