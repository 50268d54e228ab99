"""A word that must not be seen: passphrases and passwords on their way to the program."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that no log, traceback or f-string shows; ``value`` is the word itself.

    False if it is empty.
    """

    value: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return "Secret(***)" if self.value else "Secret()"

    def __str__(self) -> str:
        return "***" if self.value else ""


NO_SECRET = Secret()
"""The absence of one."""
