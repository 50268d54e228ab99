"""The states of a machine, and how they follow each other."""

from __future__ import annotations

import enum
from typing import NamedTuple

from core_infra.errors import WrongStateError


class Status(enum.Enum):
    """The states of a machine.

    It is PAUSED after ``pause()``; or while this host's disk is full, so that it cannot write to
    its own, and RUNNING again when there is room. All that a running machine allows is allowed
    then, too. It is OFF without power: its disks remain, and ``power_on`` boots it again.
    """

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    OFF = "off"
    FAILED = "failed"
    DETACHED = "detached"


TRANSITIONS = {
    # Back to OFF or FAILED: it could not be booted again.
    Status.STARTING: {Status.RUNNING, Status.STOPPING, Status.OFF, Status.FAILED},
    # Back to STARTING: it is reverted.
    Status.RUNNING: {Status.STOPPING, Status.FAILED, Status.DETACHED, Status.STARTING},
    Status.STOPPING: {Status.STOPPED, Status.OFF, Status.RUNNING},
    Status.OFF: {Status.STARTING, Status.STOPPING},
    Status.STOPPED: set[Status](),
    Status.FAILED: {Status.STOPPING, Status.STARTING},
    Status.DETACHED: set[Status](),
}
"""To which states each state leads."""


class MachineStateError(WrongStateError):
    """The machine is not in the state that a call needs."""


class Ending(NamedTuple):
    """What ended a machine, for the errors of later calls.

    Attributes:
        by: for example ``test_a.py::test_one (call)``.
        todo: what to use instead of a machine that was ended so.
    """

    by: str
    todo: str = ""
