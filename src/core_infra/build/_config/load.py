"""Reads a project's build configuration, ``.core/build.yaml``."""

from __future__ import annotations

import functools
import os
import posixpath
from typing import TYPE_CHECKING

from core_infra._yaml.field import Field, Wrong
from core_infra._yaml.reading import each, one_of, read_yaml, whole
from core_infra.build._artifact import Target
from core_infra.build._config import values
from core_infra.build._config.settings import (
    DEFAULT_TARGETS,
    ArchiveSettings,
    BuildConfig,
    BuildSettings,
    ChangelogSettings,
    DockerSettings,
    ForgeSettings,
    HookSettings,
    LinuxKitSettings,
    OciSettings,
    PackageSettings,
    ProjectSettings,
    PublishSettings,
    SigningSettings,
)
from core_infra.build._errors import ConfigError
from core_infra.build._secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra._yaml.field import Fields
    from core_infra.medium._medium import Medium

_FILE = ".core/build.yaml"
MISSPELT_CONFIG = ".core/build.yml"
_VERSION = 1
_SIZE_MAX = 256 << 10
_GITHUB = "https://api.github.com"
_NO_FORGE = ForgeSettings("", "", "")
"""Instead of a forge with mistakes, which are reported."""
_SECTIONS = (
    *("version", "project", "build", "targets", "archive", "hooks", "sign"),
    *("packages", "oci", "changelog", "publish", "docker", "linuxkit"),
)
_PROJECT_FIELDS = ("name", "description", "main", "binary", "type", "tag_prefix")


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
    if medium.exists(path):
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
    fields = top.fields(_SECTIONS)
    fields.optional("version", _check_version, None)
    return BuildConfig(
        project=_project(fields),
        build=_build(fields),
        targets=fields.optional("targets", _targets, ()) or DEFAULT_TARGETS,
        sign=_sign(fields, env),
        archive=_archive(fields),
        hooks=_hooks(fields),
        packages=_packages(fields),
        oci=_oci(fields),
        changelog=_changelog(fields),
        publish=_publish(fields),
        docker=_docker(fields),
        linuxkit=_linuxkit(fields),
    )


def _check_version(field: Field) -> None:
    if whole(0)(field) != _VERSION:
        field.reject(f"version {_VERSION}", "; is there a newer core-infra?")


def _project(top: Fields) -> ProjectSettings:
    fields = top.section("project", _PROJECT_FIELDS)
    return ProjectSettings(
        name=fields.optional("name", values.file_name, ""),
        description=fields.optional("description", Field.string, ""),
        main=fields.optional("main", values.inner_path, "."),
        binary=fields.optional("binary", values.file_name, ""),
        type=fields.optional("type", values.project_type, None),
        tag_prefix=fields.optional("tag_prefix", values.tag_prefix, ""),
    )


def _build(top: Fields) -> BuildSettings:
    fields = top.section("build", ("cgo", "flags", "ldflags", "env", "stamp"))
    default = BuildSettings()
    return BuildSettings(
        cgo=fields.optional("cgo", Field.flag, default.cgo),
        flags=fields.optional("flags", each(values.flag), default.flags),
        ldflags=fields.optional("ldflags", each(Field.string), default.ldflags),
        env=fields.optional("env", each(values.assignment), default.env),
        stamp=fields.optional("stamp", values.stamps, ()),
    )


def _archive(top: Fields) -> ArchiveSettings:
    fields = top.section("archive", ("name", "files", "wrap"))
    default = ArchiveSettings()
    return ArchiveSettings(
        name=fields.optional("name", values.archive_name, default.name),
        files=fields.optional("files", each(values.inner_path), default.files),
        wrap=fields.optional("wrap", Field.flag, default.wrap),
    )


def _hooks(top: Fields) -> HookSettings:
    names = ("before", "before_build", "after_build", "before_archive", "after_archive")
    fields = top.section("hooks", names)
    return HookSettings(
        **{name: fields.optional(name, each(values.hook), ()) for name in names},
    )


def _packages(top: Fields) -> PackageSettings:
    fields = top.section(
        "packages", ("formats", "maintainer", "homepage", "license", "depends", "files")
    )
    formats = fields.optional("formats", each(one_of(("deb", "rpm"))), ())
    depends = fields.section("depends", ("deb", "rpm"))
    read = fields.required if "deb" in formats else fields.optional
    license_ = fields.required if "rpm" in formats else fields.optional
    return PackageSettings(
        formats=tuple(dict.fromkeys(formats)),
        maintainer=read("maintainer", values.maintainer, ""),
        homepage=fields.optional("homepage", values.line, ""),
        license=license_("license", values.line, ""),
        deb_depends=depends.optional("deb", each(values.line), ()),
        rpm_depends=depends.optional("rpm", each(values.line), ()),
        files=fields.optional("files", values.system_files, ()),
    )


def _oci(top: Fields) -> OciSettings:
    fields = top.section("oci", ("image", "entrypoint", "user", "files"))
    default = OciSettings()
    return OciSettings(
        image=fields.optional("image", values.image_name, default.image),
        entrypoint=fields.optional("entrypoint", values.file_name, default.entrypoint),
        user=fields.optional("user", values.line, default.user),
        files=fields.optional("files", values.system_files, default.files),
    )


def _changelog(top: Fields) -> ChangelogSettings:
    fields = top.section("changelog", ("from", "file"))
    default = ChangelogSettings()
    return ChangelogSettings(
        source=fields.optional("from", one_of(("auto", "file", "commits", "none")), default.source),
        file=fields.optional("file", values.inner_path, default.file),
    )


def _publish(top: Fields) -> PublishSettings:
    fields = top.section("publish", ("github", "forgejo", "pypi", "image"))
    return PublishSettings(
        forges=tuple(
            fields[kind].take(functools.partial(_forge, kind), None) or _NO_FORGE
            for kind in ("github", "forgejo")
            if kind in fields
        ),
        pypi=fields.optional("pypi", values.index, ""),
        image=fields.optional("image", Field.flag, default=False),
    )


def _forge(kind: str, field: Field) -> ForgeSettings:
    fields = field.fields(("repository", "url", "draft"))
    read = fields.required if kind == "forgejo" else fields.optional
    return ForgeSettings(
        kind=kind,
        repository=fields.required("repository", values.repository, ""),
        url=read("url", values.address, _GITHUB),
        draft=fields.optional("draft", Field.flag, default=False),
    )


def _targets(field: Field) -> tuple[Target, ...]:
    found: list[Target] = []
    for item in field.items():
        target = item.take(_target, None)
        if target in found:
            item.note(f"{target} is there twice", "each target once")
        elif target is not None:
            found.append(target)
    return tuple(found)


def _target(field: Field) -> Target:
    fields = field.fields(("os", "arch"))
    system = fields.required("os", values.platform, None)
    arch = fields.required("arch", values.platform, None)
    if system is None or arch is None:
        raise Wrong
    return Target(system, arch)


def _docker(top: Fields) -> DockerSettings:
    fields = top.section("docker", ("dockerfile", "image", "tags", "build_args"))
    default = DockerSettings()
    return DockerSettings(
        dockerfile=fields.optional("dockerfile", values.inner_path, default.dockerfile),
        image=fields.optional("image", values.image, default.image),
        tags=fields.optional("tags", each(values.image_tag), ()),
        build_args=fields.optional("build_args", each(values.assignment), ()),
    )


def _linuxkit(top: Fields) -> LinuxKitSettings:
    fields = top.section("linuxkit", ("config", "formats", "assembler"))
    return LinuxKitSettings(
        config=fields.optional("config", values.inner_path, ""),
        formats=fields.optional("formats", each(values.image_format), ()),
        assembler=fields.optional("assembler", one_of(("core-infra", "linuxkit")), ""),
    )


def _sign(top: Fields, env: Mapping[str, str]) -> SigningSettings:
    fields = top.section("sign", ("enabled", "gpg", "sigstore", "macos", "windows"), private=True)
    gpg = fields.section("gpg", ("key",))
    sigstore = fields.section("sigstore", ("identity", "issuer"))
    given = sigstore.required if sigstore else sigstore.optional
    mac = fields.section("macos", ("identity", "notarize", "apple_id", "team_id", "app_password"))
    windows = fields.section("windows", ("certificate", "password"))
    source = values.Variables(env)
    return SigningSettings(
        enabled=fields.optional("enabled", Field.flag, default=True),
        gpg_key=source.read(gpg, "key", "GPG_KEY_ID"),
        gpg_passphrase=Secret(env.get("GPG_PASSPHRASE", "")),
        sigstore_identity=given("identity", values.line, ""),
        sigstore_issuer=given("issuer", values.line, ""),
        macos_identity=source.read(mac, "identity", "CODESIGN_IDENTITY"),
        macos_notarize=mac.optional("notarize", Field.flag, default=False),
        apple_id=source.read(mac, "apple_id", "APPLE_ID"),
        apple_team_id=source.read(mac, "team_id", "APPLE_TEAM_ID"),
        apple_app_password=Secret(source.read(mac, "app_password", "APPLE_APP_PASSWORD")),
        windows_certificate=source.read(windows, "certificate", "WINDOWS_CERTIFICATE"),
        windows_password=Secret(source.read(windows, "password", "WINDOWS_CERTIFICATE_PASSWORD")),
        unset=tuple(source.unset),
    )
