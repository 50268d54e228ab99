"""What is done about signals."""

from core_infra.jobrunner._handlers.command import CheckedCommandHandler, CommandHandler
from core_infra.jobrunner._handlers.dispatch import Dispatch
from core_infra.jobrunner._handlers.forge import (
    Completion,
    DismissReviews,
    EnableAutoMerge,
    ForgeHandler,
    PublishDraft,
    ResolveThreads,
    SendFixCommand,
    TickParent,
)

__all__ = [
    "CheckedCommandHandler",
    "CommandHandler",
    "Completion",
    "DismissReviews",
    "Dispatch",
    "EnableAutoMerge",
    "ForgeHandler",
    "PublishDraft",
    "ResolveThreads",
    "SendFixCommand",
    "TickParent",
]
