"""What is done about signals."""

from core_infra.jobrunner.handlers.command import CheckedCommandHandler, CommandHandler
from core_infra.jobrunner.handlers.dispatch import Dispatch
from core_infra.jobrunner.handlers.forge import (
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
