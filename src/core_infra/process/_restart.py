"""Whether a program is started again when it ends."""

from __future__ import annotations

import dataclasses
from typing import Literal

from core_infra.errors import InvalidError

_MAX_DOUBLINGS = 1000  # 2.0 to a higher power is no float; the longest pause is reached long before


@dataclasses.dataclass(frozen=True)
class RestartPolicy:
    """When to start a program again, and how long to wait before that.

    Attributes:
        when: "never"; "on_failure": it ended with another code than 0 or by a signal; "always".
            What we end ourselves (kill, stop, timeout, shutdown) is never started again.
        max_restarts: how often at most; None is without end.
        backoff: seconds before the first restart; each further pause is twice as long.
        max_backoff: the longest pause in seconds.
        reset_after: seconds that it must have run to count as healthy: the count and the pause
            begin anew.
    """

    when: Literal["never", "on_failure", "always"] = "never"
    max_restarts: int | None = None
    backoff: float = 0.1
    max_backoff: float = 30.0
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        if self.when not in ("never", "on_failure", "always"):
            raise InvalidError(
                f"cannot restart {self.when!r}", why="it is never, on_failure or always"
            )
        for name in ("max_restarts", "backoff", "max_backoff", "reset_after"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InvalidError(f"{name} of a restart policy is {value!r}", why="below 0")

    def pause(self, exit_code: int, restarts: int) -> float | None:
        """Seconds to wait before the next start; None if there is none.

        Args:
            exit_code: how the program ended; minus the signal's number if a signal ended it.
            restarts: how often it has been started again so far.
        """
        if self.when == "never" or (self.when == "on_failure" and exit_code == 0):
            return None
        if self.max_restarts is not None and restarts >= self.max_restarts:
            return None
        return min(self.backoff * 2.0 ** min(restarts, _MAX_DOUBLINGS), self.max_backoff)
