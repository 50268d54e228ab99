"""Reads the sections of ``.core/build.yaml``; what is missing is as in a given configuration.

That is the default for a file, and the file for one of its ``builds``.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra._yaml.field import Field, Wrong
from core_infra._yaml.reading import each, one_of
from core_infra.build._artifact import Target
from core_infra.build._config import values
from core_infra.build._config.settings import (
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
from core_infra.build._secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra._yaml.field import Fields

_GITHUB = "https://api.github.com"
_NO_FORGE = ForgeSettings("", "", "")
"""Instead of a forge with mistakes, which are reported."""
_PROJECT_FIELDS = ("name", "description", "main", "binary", "type", "tag_prefix")
OF_A_BUILD = ("build", "targets", "archive", "hooks", "packages", "oci", "docker", "linuxkit")
"""The sections that one of several builds can have for itself."""


def read_project(top: Fields) -> ProjectSettings:
    """The section ``project``."""
    fields = top.section("project", _PROJECT_FIELDS)
    return ProjectSettings(
        name=fields.optional("name", values.file_name, ""),
        description=fields.optional("description", Field.string, ""),
        main=fields.optional("main", values.inner_path, "."),
        binary=fields.optional("binary", values.file_name, ""),
        type=fields.optional("type", values.project_type, None),
        tag_prefix=fields.optional("tag_prefix", values.tag_prefix, ""),
    )


def read_sections(top: Fields, base: BuildConfig) -> BuildConfig:
    """The sections that a build can have for itself: :data:`OF_A_BUILD`."""
    return replace(
        base,
        build=_build(top, base.build),
        targets=top.optional("targets", _targets, ()) or base.targets,
        archive=_archive(top, base.archive),
        hooks=_hooks(top, base.hooks),
        packages=_packages(top, base.packages),
        oci=_oci(top, base.oci),
        docker=_docker(top, base.docker),
        linuxkit=_linuxkit(top, base.linuxkit),
    )


def _build(top: Fields, default: BuildSettings) -> BuildSettings:
    fields = top.section("build", ("cgo", "flags", "ldflags", "env", "stamp"))
    return BuildSettings(
        cgo=fields.optional("cgo", Field.flag, default.cgo),
        flags=fields.optional("flags", each(values.flag), default.flags),
        ldflags=fields.optional("ldflags", each(Field.string), default.ldflags),
        env=fields.optional("env", each(values.assignment), default.env),
        stamp=fields.optional("stamp", values.stamps, default.stamp),
    )


def _archive(top: Fields, default: ArchiveSettings) -> ArchiveSettings:
    fields = top.section("archive", ("name", "files", "wrap"))
    return ArchiveSettings(
        name=fields.optional("name", values.archive_name, default.name),
        files=fields.optional("files", each(values.inner_path), default.files),
        wrap=fields.optional("wrap", Field.flag, default.wrap),
    )


def _hooks(top: Fields, default: HookSettings) -> HookSettings:
    names = ("before", "before_build", "after_build", "before_archive", "after_archive")
    fields = top.section("hooks", names)
    return HookSettings(
        **{
            name: fields.optional(name, each(values.hook), getattr(default, name)) for name in names
        },
    )


def _packages(top: Fields, default: PackageSettings) -> PackageSettings:
    fields = top.section(
        "packages", ("formats", "maintainer", "homepage", "license", "depends", "files")
    )
    formats = fields.optional("formats", each(one_of(("deb", "rpm"))), default.formats)
    depends = fields.section("depends", ("deb", "rpm"))
    needs_maintainer = "deb" in formats and not default.maintainer
    needs_license = "rpm" in formats and not default.license
    read = fields.required if needs_maintainer else fields.optional
    license_ = fields.required if needs_license else fields.optional
    return PackageSettings(
        formats=tuple(dict.fromkeys(formats)),
        maintainer=read("maintainer", values.maintainer, default.maintainer),
        homepage=fields.optional("homepage", values.line, default.homepage),
        license=license_("license", values.line, default.license),
        deb_depends=depends.optional("deb", each(values.line), default.deb_depends),
        rpm_depends=depends.optional("rpm", each(values.line), default.rpm_depends),
        files=fields.optional("files", values.system_files, default.files),
    )


def _oci(top: Fields, default: OciSettings) -> OciSettings:
    fields = top.section("oci", ("image", "entrypoint", "user", "files"))
    return OciSettings(
        image=fields.optional("image", values.image_name, default.image),
        entrypoint=fields.optional("entrypoint", values.file_name, default.entrypoint),
        user=fields.optional("user", values.line, default.user),
        files=fields.optional("files", values.system_files, default.files),
    )


def read_changelog(top: Fields, default: ChangelogSettings) -> ChangelogSettings:
    """The section ``changelog``."""
    fields = top.section("changelog", ("from", "file"))
    return ChangelogSettings(
        source=fields.optional("from", one_of(("auto", "file", "commits", "none")), default.source),
        file=fields.optional("file", values.inner_path, default.file),
    )


def read_publish(top: Fields, default: PublishSettings) -> PublishSettings:
    """The section ``publish``."""
    fields = top.section("publish", ("github", "forgejo", "pypi", "image"))
    forges = tuple(
        fields[kind].take(functools.partial(_forge, kind), None) or _NO_FORGE
        for kind in ("github", "forgejo")
        if kind in fields
    )
    return PublishSettings(
        forges=forges or default.forges,
        pypi=fields.optional("pypi", values.index, default.pypi),
        image=fields.optional("image", Field.flag, default=default.image),
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


def _docker(top: Fields, default: DockerSettings) -> DockerSettings:
    fields = top.section("docker", ("dockerfile", "image", "tags", "build_args"))
    return DockerSettings(
        dockerfile=fields.optional("dockerfile", values.inner_path, default.dockerfile),
        image=fields.optional("image", values.image, default.image),
        tags=fields.optional("tags", each(values.image_tag), default.tags),
        build_args=fields.optional("build_args", each(values.assignment), default.build_args),
    )


def _linuxkit(top: Fields, default: LinuxKitSettings) -> LinuxKitSettings:
    fields = top.section("linuxkit", ("config", "formats", "assembler"))
    assembler = one_of(("core-infra", "linuxkit"))
    return LinuxKitSettings(
        config=fields.optional("config", values.inner_path, default.config),
        formats=fields.optional("formats", each(values.image_format), default.formats),
        assembler=fields.optional("assembler", assembler, default.assembler),
    )


def read_signing(top: Fields, env: Mapping[str, str]) -> SigningSettings:
    """The section ``sign``."""
    names = ("enabled", "key", "gpg", "sigstore", "macos", "windows")
    fields = top.section("sign", names, private=True)
    gpg = fields.section("gpg", ("key",))
    sigstore = fields.section("sigstore", ("identity", "issuer"))
    given = sigstore.required if sigstore else sigstore.optional
    mac = fields.section("macos", ("identity", "notarize", "apple_id", "team_id", "app_password"))
    windows = fields.section("windows", ("certificate", "password"))
    source = values.Variables(env)
    return SigningSettings(
        enabled=fields.optional("enabled", Field.flag, default=True),
        key=source.read(fields, "key", ""),
        key_passphrase=Secret(env.get("SIGNING_KEY_PASSPHRASE", "")),
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
