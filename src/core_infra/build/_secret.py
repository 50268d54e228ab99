"""Passphrases, passwords and tokens: hidden in logs, and sent only where they belong."""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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


def read_token(variable: str) -> Secret:
    """The token in an environment variable, or in the file that ``VARIABLE_FILE`` names.

    Returns:
        The token; empty if there is none, or the file cannot be read.
    """
    if text := os.environ.get(variable, "").strip():
        return Secret(text)
    if name := os.environ.get(f"{variable}_FILE", ""):
        try:
            return Secret(Path(name).read_text("ascii").strip())
        except (OSError, ValueError):
            return NO_SECRET
    return NO_SECRET


def missing_token(variable: str, what: str) -> str:
    """The sentence that a token is missing."""
    return f"{what} needs a token: set {variable}, or {variable}_FILE to the path of a file with it"


def address_problem(url: str) -> str:
    """Why a token must not be sent to an address; empty if it may be sent."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "it is not a valid address"
    if parts.username or parts.password:
        return "it has credentials in it, which would appear in logs"
    if parts.query or parts.fragment:
        return "it has a query or a fragment"
    if not host or parts.scheme not in {"https", "http"}:
        return "it is not of the form https://HOST"
    if parts.scheme == "http" and host not in _LOOPBACK:
        return "it is not encrypted: http is only for this host itself"
    return ""


def origin(url: str) -> tuple[str, str, int | None]:
    """The part of an address that determines who gets a token: scheme, host and port."""
    parts = urllib.parse.urlsplit(url)
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or usual
