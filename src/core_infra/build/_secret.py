"""Passphrases and passwords that must not appear in logs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """A passphrase or password; ``str()`` and ``repr()`` hide it. False if it is empty.

    Attributes:
        value: the secret itself.
    """

    value: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return "Secret(***)" if self.value else "Secret()"

    def __str__(self) -> str:
        return "***" if self.value else ""


NO_SECRET = Secret()
"""The empty secret."""
