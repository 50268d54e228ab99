"""Named services with one life, and the bus on which they talk."""

from core_infra.framework.bus import Bus
from core_infra.framework.core import Core, NamedFactory, service_for, with_name
from core_infra.framework.errors import (
    ActionError,
    GroupError,
    ShutdownError,
    StartupError,
    UnhandledError,
)
from core_infra.framework.handlers import Registration
from core_infra.framework.life import Startable, Status, Stoppable
from core_infra.framework.messages import DECLINED, Declined, Request

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
