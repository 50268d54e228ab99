"""go.mod, Cargo.lock and composer.lock."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING

from core_infra.build._documents.lock_files.dependency import Dependency

if TYPE_CHECKING:
    from collections.abc import Iterator

_REQUIRE = re.compile(r"^\s*(?:require\s+)?(\S+\.\S+)\s+(v\S+)", re.MULTILINE)
_BLOCK = re.compile(r"^require\s*\((.*?)^\)|^require\s+([^(\n]+)$", re.MULTILINE | re.DOTALL)
_REPLACES = re.compile(r"^replace\s*\((.*?)^\)|^replace\s+([^(\n]+)$", re.MULTILINE | re.DOTALL)
_REPLACE = re.compile(
    r"^\s*(\S+)(?:[ \t]+(v\S+))?[ \t]+=>[ \t]+(\S+)(?:[ \t]+(v\S+))?", re.MULTILINE
)


def read_go(text: str, manifest: str) -> Iterator[Dependency]:
    """go.mod: what is required, or replaces it; a directory has no version."""
    del manifest
    bare = re.sub(r"//[^\n]*", "", text)
    replaced = {}
    for match in _REPLACES.finditer(bare):
        for name, only, other, version in _REPLACE.findall(match[1] or match[2]):
            replaced[name, only] = (other, version)
    for match in _BLOCK.finditer(bare):
        for name, version in _REQUIRE.findall(match[1] or match[2]):
            other = replaced.get((name, version)) or replaced.get((name, ""))
            if other is None:
                yield Dependency("golang", name, version)
            elif other[1]:
                yield Dependency("golang", *other)
            else:
                yield Dependency("golang", name, "")


def read_cargo(text: str, manifest: str) -> Iterator[Dependency]:
    """Cargo.lock: everything but the members of the workspace."""
    del manifest
    for package in tomllib.loads(text).get("package", []):
        if "source" in package:
            yield Dependency("cargo", package["name"], package["version"])


def read_composer(text: str, manifest: str) -> Iterator[Dependency]:
    """composer.lock: the packages without those for developers."""
    del manifest
    for package in json.loads(text)["packages"]:
        yield Dependency("composer", package["name"], package["version"])
