"""What is done about signals."""

from core_infra.jobrunner.handlers.command import CheckedCommandHandler, CommandHandler
from core_infra.jobrunner.handlers.dispatch import Dispatch

__all__ = ["CheckedCommandHandler", "CommandHandler", "Dispatch"]
