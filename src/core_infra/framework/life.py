"""A core's life, and what a service may have to do with it."""

from __future__ import annotations

import enum
from typing import Protocol, runtime_checkable


class Status(enum.Enum):
    """The states of a core, in the order in which it goes through them."""

    MAKING = "making"
    """The factories run."""
    MADE = "made"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


@runtime_checkable
class Startable(Protocol):
    """A service that has something to do when its core starts."""

    def on_startup(self) -> None:
        """Begin; called after the services that are named earlier have started.

        If it raises, it has cleaned up after itself: its ``on_shutdown`` is not called.
        """


@runtime_checkable
class Stoppable(Protocol):
    """A service that has something to do when its core shuts down."""

    def on_shutdown(self) -> None:
        """End; called while the services that are named earlier still run, and the bus as well.

        Called once, and only if the service was started.
        """
