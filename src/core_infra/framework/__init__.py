"""Named services with a common lifetime, and the bus that connects them."""

from core_infra.framework._bus import Bus
from core_infra.framework._core import (
    Core,
    CoreStatus,
    NamedFactory,
    Startable,
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
    "CoreStatus",
    "Declined",
    "GroupError",
    "NamedFactory",
    "Registration",
    "Request",
    "ShutdownError",
    "Startable",
    "StartupError",
    "Stoppable",
    "UnhandledError",
    "service_for",
    "with_name",
]
