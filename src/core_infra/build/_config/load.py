"""Reads what a project says about its build: ``.core/build.yaml``."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

from core_infra.build._artifact import Target
from core_infra.build._config import values
from core_infra.build._config.fields import read_document
from core_infra.build._config.settings import (
    DEFAULT_TARGETS,
    Build,
    BuildConfig,
    Docker,
    LinuxKit,
    Project,
    Sign,
)
from core_infra.build._secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.build._config.fields import Field
    from core_infra.medium._medium import Medium

_FILE = ".core/build.yaml"
_VERSION = 1
_READ_MAX = 1 << 20


def config_path(directory: str) -> str:
    """Where a project's configuration is."""
    return posixpath.normpath(posixpath.join(directory, _FILE))


def config_exists(medium: Medium, directory: str) -> bool:
    """Whether a project has a configuration."""
    return medium.is_file(config_path(directory))


def load_config(
    medium: Medium, directory: str, *, env: Mapping[str, str] | None = None
) -> BuildConfig:
    """Read a project's configuration; the defaults if it has none.

    A field that is missing or null takes its default. An empty list stays empty, except targets.

    Args:
        medium: where the project is.
        directory: the project's directory.
        env: the variables that signing keys may come from; by default the environment's.

    Raises:
        ConfigError: the first mistake, with its file, line and field.
        CoreInfraError: the file is there and cannot be read.
    """
    env = os.environ if env is None else env
    path = config_path(directory)
    data = b""
    if medium.exists(path):
        with medium.open(path) as file:
            data = file.read(_READ_MAX)  # more than is accepted: enough to say so
    return _config(read_document(data, path), env)


def _config(top: Field, env: Mapping[str, str]) -> BuildConfig:
    known = ("version", "project", "build", "targets", "sign", "docker", "linuxkit")
    fields = top.mapping(known)
    if fields["version"].get(lambda one: one.number(), _VERSION) != _VERSION:
        fields["version"].fail(f"version {_VERSION}", todo="Is there a newer core-infra?")
    return BuildConfig(
        project=_project(fields["project"]),
        build=_build(fields["build"]),
        targets=_targets(fields["targets"]) or DEFAULT_TARGETS,
        sign=_sign(fields["sign"], env),
        docker=_docker(fields["docker"]),
        linuxkit=_linuxkit(fields["linuxkit"]),
    )


def _project(top: Field) -> Project:
    fields = top.mapping(("name", "description", "main", "binary", "type"))
    return Project(
        name=fields["name"].get(values.file_name, ""),
        description=fields["description"].get(values.text, ""),
        main=fields["main"].get(values.inner_path, "."),
        binary=fields["binary"].get(values.file_name, ""),
        type=fields["type"].get(values.project_type, None),
    )


def _build(top: Field) -> Build:
    fields = top.mapping(("cgo", "flags", "ldflags", "env"))
    default = Build()
    return Build(
        cgo=fields["cgo"].get(lambda one: one.flag(), default.cgo),
        flags=fields["flags"].list_of(values.flag, default.flags),
        ldflags=fields["ldflags"].list_of(values.text, default.ldflags),
        env=fields["env"].list_of(values.assignment, default.env),
    )


def _targets(top: Field) -> tuple[Target, ...]:
    found: list[Target] = []
    for item in top.items() if top.given else []:
        fields = item.mapping(("os", "arch"))
        target = Target(values.platform(fields["os"]), values.platform(fields["arch"]))
        if target in found:
            item.fail("each target once", why=f"{target} is there twice")
        found.append(target)
    return tuple(found)


def _docker(top: Field) -> Docker:
    fields = top.mapping(("dockerfile", "image", "tags", "build_args"))
    default = Docker()
    return Docker(
        dockerfile=fields["dockerfile"].get(values.inner_path, default.dockerfile),
        image=fields["image"].get(values.image, default.image),
        tags=fields["tags"].list_of(values.image_tag),
        build_args=fields["build_args"].list_of(values.assignment),
    )


def _linuxkit(top: Field) -> LinuxKit:
    fields = top.mapping(("config", "formats"))
    return LinuxKit(
        config=fields["config"].get(values.inner_path, ""),
        formats=fields["formats"].list_of(values.image_format),
    )


def _sign(top: Field, env: Mapping[str, str]) -> Sign:
    fields = top.mapping(("enabled", "gpg", "macos", "windows"))
    gpg = fields["gpg"].mapping(("key",))
    mac = fields["macos"].mapping(("identity", "notarize", "apple_id", "team_id", "app_password"))
    windows = fields["windows"].mapping(("certificate", "password"))
    source = values.Variables(env)
    return Sign(
        enabled=fields["enabled"].get(lambda one: one.flag(), default=True),
        gpg_key=source.read(gpg["key"], "GPG_KEY_ID"),
        gpg_passphrase=Secret(env.get("GPG_PASSPHRASE", "")),
        macos_identity=source.read(mac["identity"], "CODESIGN_IDENTITY"),
        macos_notarize=mac["notarize"].get(lambda one: one.flag(), default=False),
        apple_id=source.read(mac["apple_id"], "APPLE_ID"),
        apple_team_id=source.read(mac["team_id"], "APPLE_TEAM_ID"),
        apple_app_password=Secret(source.read(mac["app_password"], "APPLE_APP_PASSWORD")),
        windows_certificate=source.read(windows["certificate"], "WINDOWS_CERTIFICATE"),
        windows_password=Secret(source.read(windows["password"], "WINDOWS_CERTIFICATE_PASSWORD")),
        unset=tuple(source.unset),
    )
