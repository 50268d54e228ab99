"""Named services with one life, and the bus on which they talk."""

from core_infra.framework._bus import Bus
from core_infra.framework._core import (
    Core,
    NamedFactory,
    Startable,
    Status,
    Stoppable,
    service_for,
    with_name,
)
from core_infra.framework._errors import (
    ActionError,
    GroupError,
    ShutdownError,
    StartupError,
    UnhandledError,
)
from core_infra.framework._handlers import DECLINED, Declined, Registration, Request

__all__ = [
    "DECLINED",
    "ActionError",
    "Bus",
    "Core",
    "Declined",
    "GroupError",
    "NamedFactory",
    "Registration",
    "Request",
    "ShutdownError",
    "Startable",
    "StartupError",
    "Status",
    "Stoppable",
    "UnhandledError",
    "service_for",
    "with_name",
]
