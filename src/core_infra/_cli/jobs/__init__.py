"""``core-infra jobs``: a module for the group, and one for each kind of command."""

from core_infra._cli.jobs.group import command

__all__ = ["command"]
