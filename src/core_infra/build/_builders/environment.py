"""The environment of build programs: the same on every host, and without secrets."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from core_infra.build._signing.key import variable_of
from core_infra.build._sources.git import LOCAL_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.build._builders.steps import BuildContext
    from core_infra.build._config.settings import PublishSettings


SECRET_VARIABLES = (
    "APPLE_APP_PASSWORD",
    "GPG_PASSPHRASE",
    "SIGNING_KEY_PASSPHRASE",
    "WINDOWS_CERTIFICATE_PASSWORD",
)
"""Secrets for signing tools, not for compilers, plug-ins or install scripts."""

_CALLER = re.compile(r"INIT_CWD|npm_(?:package|lifecycle|config_local_prefix|command)|PNPM_SCRIPT_")

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY")
_SECRET_MIN = 6
"""Replacing shorter values would redact ordinary words."""


def build_environment(context: BuildContext) -> dict[str, str]:
    """Environment variables of every program of a build, in addition to the inherited ones.

    SOURCE_DATE_EPOCH replaces the clock (https://reproducible-builds.org/specs/). Time zone,
    language and Python's hash seed are fixed, and the secrets of signing tools are blank.
    """
    fixed = {
        # Above the copies, there is nothing of the project.
        "GIT_CEILING_DIRECTORIES": str(context.place),
        "SOURCE_DATE_EPOCH": str(context.epoch),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "ZERO_AR_DATE": "1",  # ar and ld of macOS
        "CI": "true",  # no prompts
        "NO_COLOR": "1",
        "GIT_OPTIONAL_LOCKS": "0",  # read-only git commands must not change the repository
    }
    given = dict(line.split("=", 1) for line in context.settings.build.env)
    tokens = [name for name in publishing_variables(context.settings.publish) if name not in given]
    secrets = (*SECRET_VARIABLES, variable_of(context.settings.sign.key), *tokens)
    blank = {name: "" for name in secrets if name in os.environ}
    return fixed | given | blank


def publishing_variables(publish: PublishSettings) -> list[str]:
    """Variables with tokens for publishing, which the build's programs do not get."""
    names = [f"{forge.kind.upper()}_TOKEN" for forge in publish.forges]
    names += ["PYPI_TOKEN", "TWINE_PASSWORD"] if publish.pypi else []
    return [variable for name in names for variable in (name, f"{name}_FILE")]


def left_out(context: BuildContext) -> dict[str, None]:
    """Inherited variables that programs do not get: they lead to the user's project.

    A hook of git or a script of a package manager that calls a build has variables of its own
    repository or package.
    """
    given = {line.partition("=")[0] for line in context.settings.build.env}
    names = (*LOCAL_VARIABLES, *(name for name in os.environ if _CALLER.match(name)))
    return {name: None for name in names if name not in given}


def inherited(context: BuildContext, name: str) -> str:
    """The value of a variable in the build: the project's, else that of the user's environment."""
    given = dict(line.split("=", 1) for line in context.settings.build.env)
    return given.get(name, os.environ.get(name, ""))


def redact(text: str, env: Mapping[str, str | None] | None = None) -> str:
    """Replace the values of variables with secret names in a text."""
    known = {**os.environ, **(env or {})}
    secrets = {value for name, value in known.items() if value and is_secret(name)}
    # The longest first: one may contain another.
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= _SECRET_MIN:
            text = text.replace(value, "***")
    return text


def is_secret(name: str) -> bool:
    """Whether the value of a variable must not be shown."""
    return name in SECRET_VARIABLES or _SECRET_NAME.search(name.upper()) is not None


_ONLY_GO = "-trimpath"
"""The default of ``build.flags``, which is valid for Go only."""


def extra_flags(context: BuildContext) -> tuple[str, ...]:
    """The flags of ``build.flags`` for the command of a tool other than Go."""
    return tuple(flag for flag in context.settings.build.flags if flag != _ONLY_GO)
