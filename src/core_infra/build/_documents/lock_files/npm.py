"""The lock files of npm, Yarn, pnpm and Bun."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from core_infra.build._documents.lock_files.dependency import Dependency, reachable, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # lock files are large
_RUNTIME = ("dependencies", "optionalDependencies")
_KINDS = (*_RUNTIME, "devDependencies", "peerDependencies")
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])')
_YARN_ENTRY = re.compile(r"^(\S[^\n]*):\n((?:[ \t]+[^\n]*\n?|\n)*)", re.MULTILINE)
_YARN_VERSION = re.compile(r'^  version:? "?([^"\n]+)"?$', re.MULTILINE)
_YARN_USED = re.compile(r"^  (?:optionalD|d)ependencies:\n((?:    [^\n]*\n?)*)", re.MULTILINE)
_YARN_PAIR = re.compile(r'^    "?(@?[^"\s:]+)"?:? "?([^"\n]+)"?$', re.MULTILINE)


def read_npm(text: str, manifest: str) -> Iterator[Dependency]:
    """package-lock.json and npm-shrinkwrap.json, of all versions."""
    del manifest
    data = json.loads(text)
    if "packages" not in data and ("dependencies" in data or data["lockfileVersion"] == 1):
        yield from _first_version(data.get("dependencies", {}))
        return
    for path, package in data["packages"].items():
        before, inside, name = path.rpartition("node_modules/")
        del before
        # Without node_modules in its path, it is a member of the workspace.
        if inside and not package.get("link") and not package.get("dev") and "version" in package:
            yield Dependency("npm", package.get("name") or name, package["version"])


def _first_version(packages: dict[str, Any]) -> Iterator[Dependency]:
    for name, package in packages.items():
        if not package.get("dev"):
            real, at, version = package["version"].removeprefix("npm:").rpartition("@")
            aliased = package["version"].startswith("npm:") and at
            yield Dependency("npm", *((real, version) if aliased else (name, package["version"])))
        yield from _first_version(package.get("dependencies", {}))


def read_yarn(text: str, manifest: str) -> Iterator[Dependency]:
    """yarn.lock, of Yarn 1 and of later versions."""
    entries: dict[str, tuple[str, str, list[tuple[str, str]]]] = {}
    for match in _YARN_ENTRY.finditer(text):
        version = _YARN_VERSION.search(match[2])
        if version is None or version[1] == "0.0.0-use.local":
            continue
        used = [
            pair for block in _YARN_USED.findall(match[2]) for pair in _YARN_PAIR.findall(block)
        ]
        wanted = [one.strip().strip('"') for one in match[1].strip('"').split(",")]
        for one in wanted:
            entries[_unprefixed(one)] = (_package_name(one), version[1], used)
    roots = _roots(manifest)
    keys = list(entries) if roots is None else [f"{name}@{_bare(text)}" for name, text in roots]

    def following(key: str) -> Iterable[str]:
        used = entries[key][2] if key in entries else []
        return [f"{name}@{_bare(wanted)}" for name, wanted in used]

    for key in reachable(keys, following):
        if key in entries:
            yield Dependency("npm", *entries[key][:2])


def _package_name(wanted: str) -> str:
    name, _, rest = wanted[1:].partition("@")
    alias = re.fullmatch(r"npm:(@?[^@]+)@.+", rest)
    return alias[1] if alias else wanted[0] + name


def _unprefixed(wanted: str) -> str:
    name, _, rest = wanted[1:].partition("@")
    return f"{wanted[0]}{name}@{_bare(rest)}"


def _bare(wanted: str) -> str:
    return wanted.removeprefix("npm:")


def _roots(manifest: str) -> list[tuple[str, str]] | None:
    """The packages that package.json requires at run time; None if it requires none at all."""
    package = table(json.loads(manifest or "{}"))
    if not any(package.get(kind) for kind in _KINDS):
        return None
    return [(name, str(one)) for kind in _RUNTIME for name, one in table(package.get(kind)).items()]


def read_pnpm(text: str, manifest: str) -> Iterator[Dependency]:
    """pnpm-lock.yaml, from version 5 of its format on."""
    del manifest
    data = table(yaml.load(text, _LOADER))  # noqa: S506 - a safe loader
    listed = {**table(data.get("packages")), **table(data.get("snapshots"))}
    importers = table(data.get("importers")) or {".": data}
    known = any(kind in one for one in importers.values() for kind in _KINDS)
    roots = [
        pair
        for one in importers.values()
        for kind in _RUNTIME
        for pair in table(table(one).get(kind)).items()
    ]

    def keys(pairs: Iterable[tuple[str, Any]]) -> Iterator[str]:
        for name, value in pairs:
            version = str(value.get("version") if isinstance(value, dict) else value)
            forms = (f"{name}@{version}", f"/{name}@{version}", f"/{name}/{version}", version)
            yield from (form for form in forms if form in listed)

    def following(key: str) -> Iterator[str]:
        package = table(listed[key])
        return keys(pair for kind in _RUNTIME for pair in table(package.get(kind)).items())

    for key in reachable(keys(roots) if known else listed, following):
        if not table(listed[key]).get("dev"):
            yield _pnpm_package(key)


def _pnpm_package(key: str) -> Dependency:
    plain = key.lstrip("/").partition("(")[0]
    name, at, version = plain[1:].partition("@")
    if not at:  # version 5: /name/1.0.0_peer@2.0.0
        name, _, version = plain[1:].rpartition("/")
    return Dependency("npm", plain[0] + name, version.partition("_")[0])


def read_bun(text: str, manifest: str) -> Iterator[Dependency]:
    """bun.lock, which is JSON with comments and trailing commas."""
    del manifest
    plain = _COMMENT.sub(lambda match: match[1] or "", text)
    data = json.loads(_TRAILING.sub(lambda match: match[1] or "", plain))
    packages = data.get("packages", {})
    spaces = data.get("workspaces", {}).values()
    roots = [name for one in spaces for kind in _RUNTIME for name in one.get(kind, {})]
    known = any(kind in one for one in spaces for kind in _KINDS)

    def following(key: str) -> Iterator[str]:
        used = next((one for one in packages[key][1:] if isinstance(one, dict)), {})
        for name in (name for kind in _RUNTIME for name in used.get(kind, {})):
            inner = f"{key}/{name}"
            if inner in packages or name in packages:
                yield inner if inner in packages else name

    for key in reachable(
        (one for one in roots if one in packages) if known else packages, following
    ):
        name, _, version = packages[key][0][1:].partition("@")
        if not version.startswith(("workspace:", "file:", "link:")):
            yield Dependency("npm", packages[key][0][0] + name, version)
