"""The project's own flags, for tools that are not Go."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_infra.build.builders.builder import Config

_ONLY_GO = "-trimpath"
"""The default of ``build.flags``: other tools would not know it."""


def extra_flags(config: Config) -> tuple[str, ...]:
    """What ``build.flags`` adds to the command of a tool other than Go's."""
    return tuple(flag for flag in config.settings.build.flags if flag != _ONLY_GO)
