"""Reads a project's build configuration, ``.core/build.yaml``."""

from __future__ import annotations

import functools
import os
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra._yaml.field import Field, Wrong
from core_infra._yaml.reading import read_yaml, whole
from core_infra.build._config import values
from core_infra.build._config.sections import (
    OF_A_BUILD,
    read_changelog,
    read_project,
    read_publish,
    read_sections,
    read_signing,
)
from core_infra.build._config.settings import BuildConfig, NamedBuild, ProjectSettings
from core_infra.build._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.medium._medium import Medium

_FILE = ".core/build.yaml"
MISSPELT_CONFIG = ".core/build.yml"
_VERSION = 1
_SIZE_MAX = 256 << 10
_SECTIONS = ("version", "project", "sign", "changelog", "publish", "builds")
_NAMES_OF_A_BUILD = ("name", "dir", "type", "main", "description", "tag_prefix")
_OF_A_RELEASE = ("changelog", "publish")


def config_path(directory: str) -> str:
    """Return the path of a project's configuration."""
    return posixpath.normpath(posixpath.join(directory, _FILE))


def config_exists(medium: Medium, directory: str) -> bool:
    """Whether a project has a configuration."""
    return medium.is_file(config_path(directory))


def load_config(
    medium: Medium, directory: str, *, env: Mapping[str, str] | None = None
) -> BuildConfig:
    """Read a project's configuration; return the defaults if it has none.

    A field that is missing or null has its default. An empty list stays empty, except targets.

    Args:
        medium: where the project is.
        directory: the project's directory.
        env: the variables for signing keys; by default those of the environment.

    Raises:
        ConfigError: the file has mistakes; it has all of them, with line and field.
        CoreInfraError: the file exists but cannot be read.
    """
    variables = os.environ if env is None else env
    path = config_path(directory)
    data = b""
    folder, name = posixpath.split(path)
    # A dangling link is listed, and cannot be read.
    if medium.exists(path) or (medium.is_dir(folder) and name in medium.list(folder)):
        with medium.open(path) as file:
            data = file.read(_SIZE_MAX + 1)  # enough to see that it is too large
    return read_yaml(
        data,
        path,
        lambda top: _config(top, variables),
        error=ConfigError,
        size_max=_SIZE_MAX,
        null_is_missing=True,
    )


def _config(top: Field, env: Mapping[str, str]) -> BuildConfig:
    fields = top.fields((*_SECTIONS, *OF_A_BUILD))
    fields.optional("version", _check_version, None)
    default = BuildConfig()
    config = replace(
        read_sections(fields, default),
        project=read_project(fields),
        sign=read_signing(fields, env),
        changelog=read_changelog(fields, default.changelog),
        publish=read_publish(fields, default.publish),
    )
    builds = fields.optional("builds", functools.partial(_builds, config), ())
    return replace(config, builds=builds)


def _check_version(field: Field) -> None:
    if whole(0)(field) != _VERSION:
        field.reject(f"version {_VERSION}", "; is there a newer core-infra?")


def _builds(config: BuildConfig, field: Field) -> tuple[NamedBuild, ...]:
    found: list[NamedBuild] = []
    for item in field.items():
        one = item.take(functools.partial(_build, config), None)
        if one is None:
            continue
        if one.name in {other.name for other in found}:
            item.note(f"{one.name} is there twice", "each name once")
        found.append(one)
    return tuple(found)


def _build(config: BuildConfig, field: Field) -> NamedBuild:
    """One of ``builds``: as the file says, unless the entry says otherwise."""
    fields = field.fields((*_NAMES_OF_A_BUILD, *_OF_A_RELEASE, *OF_A_BUILD))
    name = fields.required("name", values.file_name, "")
    directory = posixpath.normpath(fields.optional("dir", values.inner_path, "."))
    above = config.project if directory == "." else ProjectSettings()
    project = ProjectSettings(
        name=name,
        description=fields.optional("description", Field.string, config.project.description),
        main=fields.optional("main", values.inner_path, above.main),
        type=fields.optional("type", values.project_type, above.type),
        tag_prefix=fields.optional("tag_prefix", values.tag_prefix, config.project.tag_prefix),
    )
    own = project.tag_prefix != config.project.tag_prefix
    for section in _OF_A_RELEASE:
        if section in fields and not own:
            fields[section].note_key(
                "only a build with a tag_prefix of its own has a release of its own"
            )
    settings = replace(
        read_sections(fields, config),
        project=project,
        changelog=read_changelog(fields, config.changelog),
        publish=read_publish(fields, config.publish),
    )
    if not name:
        raise Wrong
    return NamedBuild(name, directory, settings, has_own_release=own)
