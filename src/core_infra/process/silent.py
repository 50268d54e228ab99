"""The listener of a service without a core."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_infra.process.events import Stream
    from core_infra.process.latch import Latch
    from core_infra.process.process import Process


class Silent:
    """Tells nobody."""

    def started(self, process: Process, pid: int) -> None:
        """Nobody wants to know."""

    def wrote(self, process: Process, stream: Stream, data: bytes) -> None:
        """Nobody wants to know."""

    def ended(self, process: Process, error: Exception | None) -> None:  # noqa: ARG002
        """Nobody is to be told first."""
        process.finish()

    def awaited(self, process: Process) -> Latch:
        """The end."""
        return process.done

    def close(self) -> None:
        """There is nothing to close."""
