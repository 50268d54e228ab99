"""The group ``core-infra image``."""

from core_infra._cli.image.group import command

__all__ = ["command"]
