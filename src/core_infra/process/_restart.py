"""Restart policies: whether, and when, a program is started again after it has ended."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core_infra.errors import InvalidError
from core_infra.process._values import is_number

_MAX_DOUBLINGS = 1000  # a higher power of 2.0 is no float; max_backoff is reached long before


@dataclasses.dataclass(frozen=True)
class RestartPolicy:
    """When to start a program again, and how long to wait before that.

    Attributes:
        when: "never"; "on_failure": after an exit code other than 0 or a signal; "always".
            A program that we end ourselves (kill, stop, timeout, shutdown) is never restarted.
        max_restarts: the largest number of restarts; None is unlimited.
        backoff: seconds before the first restart; each further pause is twice as long.
        max_backoff: the longest pause in seconds.
        reset_after: seconds of running after which a program counts as healthy: its number of
            restarts and the pause start from the beginning.
    """

    when: Literal["never", "on_failure", "always"] = "never"
    max_restarts: int | None = None
    backoff: float = 0.1
    max_backoff: float = 30.0
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        if self.when not in ("never", "on_failure", "always"):
            raise InvalidError(
                f"cannot restart {self.when!r}", why="it must be never, on_failure or always"
            )
        for name in ("max_restarts", "backoff", "max_backoff", "reset_after"):
            value = getattr(self, name)
            is_right = is_number(value) and value >= 0
            if not is_right and not (name == "max_restarts" and value is None):
                raise InvalidError(
                    f"{name} of a restart policy is {value!r}", why="it must be a number, 0 or more"
                )

    def pause(self, exit_code: int, restarts: int) -> float | None:
        """Seconds to wait before the next start; None if the program is not restarted.

        Args:
            exit_code: how the program ended; minus the signal's number if a signal ended it.
            restarts: how often it has been restarted so far.
        """
        if self.when == "never" or (self.when == "on_failure" and exit_code == 0):
            return None
        if self.max_restarts is not None and restarts >= self.max_restarts:
            return None
        return min(self.backoff * 2.0 ** min(restarts, _MAX_DOUBLINGS), self.max_backoff)


class RestartCounter:
    """Counts the restarts of one process since it was last healthy.

    Args:
        policy: None never restarts.
    """

    def __init__(self, policy: RestartPolicy | None) -> None:
        self._policy = policy
        self._restarts = 0

    def next_pause(self, exit_code: int, ran: float = 0.0) -> float | None:
        """Seconds until the next restart, which is counted; None if there is none.

        Args:
            exit_code: how the program ended.
            ran: seconds that it ran.
        """
        policy = self._policy
        if policy is None:
            return None
        if ran >= policy.reset_after:
            self._restarts = 0
        pause = policy.pause(exit_code, self._restarts)
        if pause is not None:
            self._restarts += 1
        return pause
