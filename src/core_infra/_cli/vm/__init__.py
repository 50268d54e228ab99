"""``core-infra vm``: one module for each of its commands."""

from core_infra._cli.vm.group import command

__all__ = ["command"]
