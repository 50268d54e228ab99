"""Reads the configuration files of projects: package.json, Cargo.toml and others."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

from core_infra._yaml.mistakes import file_error
from core_infra.build._errors import ConfigError
from core_infra.errors import Mistake

if TYPE_CHECKING:
    from pathlib import Path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file does not exist.

    Raises:
        ConfigError: the file is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        # utf-8-sig: a byte order mark is not valid in JSON, but npm and Composer accept it.
        found = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, str(error), getattr(error, "lineno", 1)) from error
    if not isinstance(found, dict):
        raise _unreadable(path, "expected an object", 1)
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML document; empty if the file does not exist.

    Raises:
        ConfigError: the file is not TOML.
    """
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, str(error), 1) from error


def table(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return an inner table; empty if it is missing or not a table."""
    found: Any = document
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def text(document: dict[str, Any], name: str) -> str:
    """Return a string of a table; empty if it is missing or not a string."""
    found = document.get(name)
    return found if isinstance(found, str) else ""


def _unreadable(path: Path, why: str, line: int) -> ConfigError:
    return file_error(ConfigError, str(path), [Mistake(str(path), line, "", why)])
