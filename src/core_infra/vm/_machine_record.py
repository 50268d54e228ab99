"""What a machine did, and what has changed in it: for the report of a failed test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra._unpatched import time
from core_infra.errors import CoreInfraError, TimeoutExpiredError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._guest.changes import Changes, compare
from core_infra.vm._guest.survey import Survey, failed_units, parents, take_survey
from core_infra.vm._hardware import REAL
from core_infra.vm._machine_lifecycle import COARSE
from core_infra.vm._snapshots.resume import AgentGuest

if TYPE_CHECKING:
    from core_infra.vm._guest.timeline import Timeline
    from core_infra.vm._machine_lifecycle import MachineLifecycle

_CLOCK_ERROR = 5.0
"""Seconds that a guest's clock may differ from the host's without being reported."""

_LIMIT = 3.0
"""Seconds, before scaling, that the guest may take to report what has changed."""


class MachineRecord:
    """What a machine did, and what has changed in it.

    Args:
        lifecycle: the machine.
        timeline: its steps.

    Attributes:
        timeline: its steps.
        handed_out: when it was handed out, on ``time.monotonic``.
        console_at_start: where the console's log ended then; 0 if it was booted.
    """

    def __init__(self, lifecycle: MachineLifecycle, timeline: Timeline) -> None:
        self.timeline = timeline
        self.handed_out = time.monotonic()
        self._lifecycle = lifecycle
        self.console_at_start = self.console_position() if self.is_clone else 0

    @property
    def is_clone(self) -> bool:
        """Whether it was cloned; otherwise its console begins with its boot."""
        return self._lifecycle.snapshots.initial is not None

    @property
    def accelerator(self) -> str:
        """How its instructions run."""
        return self._lifecycle.last_process.accelerator

    def console_position(self) -> int:
        """Where the console's log ends now, for :meth:`console_since`."""
        return self._lifecycle.last_process.console.position

    def console_since(self, position: int) -> str:
        """What the console has printed since a position, safe to print."""
        return self._lifecycle.last_process.console.since(position)

    def why_it_ended(self) -> str:
        """Why the machine has ended, in a sentence."""
        return self._lifecycle.last_process.how_it_ended()

    def changes(self) -> Changes:
        """What has changed in the machine since it was handed out.

        The guest is asked, and a clone of what it was cloned from. If one of them does not answer
        within some seconds, the result has a note that says so.
        """
        limit = timeouts.scaled(_LIMIT)
        resumed = self._lifecycle.resumed_at
        asked = time.time()
        try:
            guest = AgentGuest(self._lifecycle.agent())
            now = take_survey(guest, self._agent, since=resumed[0][0], limit=limit)
        except CoreInfraError as error:
            note = f"the guest could not be asked: {error.what}"
            return Changes(notes=[note], silent=error.what)
        then, notes = self._before(parents(now), limit)
        changes = compare(then, now, resumed=resumed)
        changes.notes += notes
        try:
            changes.units = failed_units(guest, limit=limit)
        except TimeoutExpiredError:
            changes.notes.append("which services failed is not known: systemd did not answer")
        except CoreInfraError:
            pass  # a guest without a shell has no systemd
        changes.clock_off = self._clock_off(now.clock / 1e9, asked)
        if changes.clock_off < 0:
            changes.notes.append(
                "files that were changed after the clock was set back are not known"
            )
        open_now = {one.port for one in now.listeners if one.protocol.startswith("tcp")}
        changes.lost = sorted(self.timeline.ports - open_now)
        return changes

    def _clock_off(self, clock: float, asked: float) -> float:
        """Seconds that the guest's clock is ahead of the host's; 0 if it is right."""
        is_right = asked - _CLOCK_ERROR <= clock <= time.time() + _CLOCK_ERROR
        return 0.0 if is_right or self._lifecycle.spec.time != REAL else clock - asked

    @property
    def _agent(self) -> str:
        return self._lifecycle.guest_info.get("pid", "1")

    def _before(self, directories: set[str], limit: float) -> tuple[Survey | None, list[str]]:
        """A survey of the machine as it was handed out, and notes if there is none."""
        if not self.is_clone:
            return None, ["a machine that was booted: what was deleted is not known"]
        try:
            with self._lifecycle.snapshots.original() as (agent, info):
                began = int(info.get("clock", "0")) - COARSE
                paths = sorted(directories)
                pid = info.get("pid", "1")
                guest = AgentGuest(agent)
                return take_survey(guest, pid, since=began, directories=paths, limit=limit), []
        except (CoreInfraError, OSError) as error:
            return None, [f"what there was before is not known: {error}"]
