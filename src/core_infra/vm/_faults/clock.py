"""The guest's clock: jumps, and a wrong rate."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from typing import TYPE_CHECKING, TypeGuard

from core_infra._unpatched import time
from core_infra.errors import InvalidError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._faults.registry import Combined
from core_infra.vm._guest.guest import Guest
from core_infra.vm._guest.waiting import OWN
from core_infra.vm._hardware import VIRTUAL
from core_infra.vm._vmm_process import ClockSetting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.vm._faults.registry import MachineFault, MachineFaults
    from core_infra.vm._guest.timeline import Timeline
    from core_infra.vm._vmm_process import VmmProcess

_SLOWEST, _FASTEST = 0.9, 1.1
_HOST_SECONDS = 12.0
"""Of the host's, before scaling, that an hour of the guest's may take."""

_MOST = 10**9  # seconds: three decades, so that the clock stays one that systems can have


class ClockEffect(Combined):
    """A wrong clock: all jumps are added to the host's time, and all rates multiplied.

    Together the rates are no further from the host's than Linux can do.

    Args:
        faults: all faults of the machine.
        offset: seconds that it is ahead.
        rate: of the guest's seconds, in those of the host.
    """

    needs_guest = True

    def __init__(self, faults: MachineFaults, *, offset: float = 0.0, rate: float = 1.0) -> None:
        super().__init__(faults)
        self.offset = offset
        self.rate = rate

    def apply(self, process: VmmProcess, active: Sequence[ClockEffect]) -> None:
        """Set the guest's clock."""
        ahead = round(sum(each.offset for each in active) * 1e9)
        rate = min(max(math.prod(each.rate for each in active), _SLOWEST), _FASTEST)
        now = time.time_ns()
        process.clock = ClockSetting(ahead, rate, now)
        process.agent.set_clock(now + ahead, rate=rate)


class MachineClock:
    """The clock of a machine's guest, for ``machine.clock``."""

    def __init__(self, faults: MachineFaults, timeline: Timeline) -> None:
        self._faults = faults
        self._timeline = timeline

    def advance(
        self,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        timeout: float | None = None,
    ) -> None:
        """Let this much time pass in a machine with virtual time, in seconds of the host's.

        All of the guest's clocks and timers advance, in order: what is due meanwhile happens.

        Args:
            days: days.
            hours: hours.
            minutes: minutes.
            seconds: seconds.
            timeout: seconds of the host's that it may take.

        Raises:
            InvalidError: the time is negative, or the machine does not have virtual time.
            TimeoutExpiredError: it takes longer; some of the time has passed.
            MachineStateError: the machine does not run.
        """
        process = self._faults.process
        total = _total(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if process.spec.time != VIRTUAL:
            raise InvalidError(
                f"cannot advance the clock of machine {process.spec.name}",
                why="its time is real",
                todo='Start it with time="virtual"; clock.jump() sets the clock of any machine.',
            )
        self._faults.require_awake(f"cannot advance the clock of machine {process.spec.name}")
        limit = timeouts.limit(timeout, _HOST_SECONDS + total * _HOST_SECONDS / 3600)
        guest = Guest(lambda: process.agent)
        with self._timeline.step("advance the clock", f"by {total:g} s"):
            guest.exec(["sleep", f"{total:.3f}"], check=True, timeout=limit, **OWN)

    def jump(self, seconds: float) -> MachineFault:
        """Set the guest's clock forward, or backward, by *seconds*.

        Timers of the guest's monotonic clock are not affected. At the end of the fault the clock
        has the host's time.

        Raises:
            InvalidError: *seconds* is not a number, or too large.
            MachineStateError: the machine does not run.
        """
        self._require_real()
        given: object = seconds
        if not _is_number(given) or not -_MOST <= given <= _MOST:
            raise InvalidError(
                f"cannot set a clock by {seconds!r}",
                why=f"it is a number of seconds, up to {_MOST}",
            )
        effect = ClockEffect(self._faults, offset=float(seconds))
        return self._faults.begin(f"clock: jumped by {seconds:+} s", effect)

    def skew(self, rate: float) -> MachineFault:
        """Run the guest's clocks at another rate: 1.01 gains 36 seconds in an hour.

        At the end of the fault the clock has the host's time and rate. Several rates are
        multiplied, but the clock runs no slower than 0.9, and no faster than 1.1.

        Raises:
            InvalidError: *rate* is not from 0.9 to 1.1, which is what Linux can do.
            MachineStateError: the machine does not run.
        """
        self._require_real()
        given: object = rate
        if not _is_number(given) or not _SLOWEST <= given <= _FASTEST:
            raise InvalidError(
                f"cannot run a clock at the rate {rate!r}",
                why=f"Linux can do {_SLOWEST} to {_FASTEST}",
            )
        effect = ClockEffect(self._faults, rate=float(rate))
        return self._faults.begin(f"clock: runs at the rate {rate}", effect)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let virtual time pass within the block, also while no call waits for the guest.

        For connections to forwarded ports, and for the console.
        """
        with self._faults.process.agent.working():
            yield

    def _require_real(self) -> None:
        process = self._faults.process
        if process.spec.time == VIRTUAL:
            raise InvalidError(
                f"cannot put the clock of machine {process.spec.name} wrong",
                why="its time is virtual, and has no right one",
                todo="clock.advance() lets time pass.",
            )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _total(**times: object) -> float:
    """Seconds, of times in the units that name them."""
    for unit, value in times.items():
        if not _is_number(value) or not 0 <= value <= _MOST:
            raise InvalidError(
                f"cannot advance by {value!r} {unit}",
                why=f"it is a number from 0 to {_MOST}: time does not go back",
            )
    return dt.timedelta(**times).total_seconds()  # type: ignore[arg-type] # checked above
