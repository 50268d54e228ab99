"""The environment that build programs run in: the same everywhere, and without secrets."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.build._builders.builder import Config


SECRET_VARIABLES = ("GPG_PASSPHRASE", "APPLE_APP_PASSWORD", "WINDOWS_CERTIFICATE_PASSWORD")
"""What the signing tools are told, and no compiler, plug-in or install script."""

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY")
_SECRET_MIN = 6
"""Shorter values would blot out innocent words."""


def build_environment(config: Config) -> dict[str, str]:
    """What every program of a build gets besides what it inherits.

    The clock's place is taken by SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/), time
    zone, language and Python's hashing are fixed, and the signing tools' secrets are blank.
    """
    fixed = {
        "SOURCE_DATE_EPOCH": str(config.epoch),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "ZERO_AR_DATE": "1",  # ar and ld of macOS
        "CI": "true",  # no prompts, no questions about telemetry
        "NO_COLOR": "1",
        "GIT_OPTIONAL_LOCKS": "0",  # who only looks at the project's repository changes nothing
    }
    blank = {name: "" for name in SECRET_VARIABLES if name in os.environ}
    given = dict(line.split("=", 1) for line in config.settings.build.env)
    return fixed | given | blank


def inherited(config: Config, name: str) -> str:
    """What a program of the build would find in a variable: the project's word, else the user's."""
    given = dict(line.split("=", 1) for line in config.settings.build.env)
    return given.get(name, os.environ.get(name, ""))


def redact(text: str, env: Mapping[str, str | None] | None = None) -> str:
    """Replace what variables with a secret's name hold, wherever it stands in a text."""
    known = {**os.environ, **(env or {})}
    secrets = {value for name, value in known.items() if value and is_secret(name)}
    # The longest first: one may be a part of another.
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= _SECRET_MIN:
            text = text.replace(value, "***")
    return text


def is_secret(name: str) -> bool:
    """Whether a variable is one whose value is shown to nobody."""
    return name in SECRET_VARIABLES or _SECRET_NAME.search(name.upper()) is not None


_ONLY_GO = "-trimpath"
"""The default of ``build.flags``: other tools would not know it."""


def extra_flags(config: Config) -> tuple[str, ...]:
    """What ``build.flags`` adds to the command of a tool other than Go's."""
    return tuple(flag for flag in config.settings.build.flags if flag != _ONLY_GO)
