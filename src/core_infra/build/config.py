"""What a project says about its build: ``.core/build.yaml``."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core_infra.build import values
from core_infra.build.artifact import Target
from core_infra.build.fields import read_document
from core_infra.build.secret import NO_SECRET, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.build.fields import Field
    from core_infra.build.project import ProjectType
    from core_infra.medium.medium import Medium

DEFAULT_TARGETS = (
    Target("linux", "amd64"),
    Target("linux", "arm64"),
    Target("darwin", "arm64"),
    Target("windows", "amd64"),
)
_FILE = ".core/build.yaml"
_VERSION = 1
_READ_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Project:
    """Names.

    Attributes:
        name: what the project is called.
        description: what it is, in a sentence.
        main: the package or file to build, relative to the project's directory.
        binary: the program's file name, if it is not the project's name.
        type: what to build it as, if it is not what is discovered.
    """

    name: str = ""
    description: str = ""
    main: str = "."
    binary: str = ""
    type: ProjectType | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """How to compile.

    Attributes:
        cgo: whether Go may call C.
        flags: of the build command.
        ldflags: of the linker.
        env: ``NAME=value`` each, added to the environment.
    """

    cgo: bool = False
    flags: tuple[str, ...] = ("-trimpath",)
    ldflags: tuple[str, ...] = ("-s", "-w")
    env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sign:
    """Who signs; what is empty is not asked for.

    Attributes:
        enabled: whether anything is signed at all.
        gpg_key: the key that signs the checksums.
        gpg_passphrase: its passphrase, from ``GPG_PASSPHRASE`` only.
        macos_identity: whom codesign signs as.
        macos_notarize: whether Apple is asked to notarize.
        apple_id: the account for that.
        apple_team_id: its team.
        apple_app_password: its password for apps.
        windows_certificate: path of a PKCS #12 file, or a thumbprint for signtool.
        windows_password: that file's password.
        unset: variables that the configuration names and the environment does not have.
    """

    enabled: bool = True
    gpg_key: str = ""
    gpg_passphrase: Secret = NO_SECRET
    macos_identity: str = ""
    macos_notarize: bool = False
    apple_id: str = ""
    apple_team_id: str = ""
    apple_app_password: Secret = NO_SECRET
    windows_certificate: str = ""
    windows_password: Secret = NO_SECRET
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Docker:
    """What the docker builder makes.

    Attributes:
        dockerfile: relative to the project's directory.
        image: the image's name, with the registry's.
        tags: of the image.
        build_args: ``NAME=value`` each.
    """

    dockerfile: str = "Dockerfile"
    image: str = ""
    tags: tuple[str, ...] = ()
    build_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinuxKit:
    """What the linuxkit builder makes.

    Attributes:
        config: the YAML to build, relative to the project's directory; empty: what is found.
        formats: the outputs of ``linuxkit build --format``.
    """

    config: str = ""
    formats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """A whole configuration; without arguments, the defaults.

    Attributes:
        version: of the file's format.
        targets: the platforms to build for; never empty.
    """

    version: int = _VERSION
    project: Project = field(default_factory=Project)
    build: Build = field(default_factory=Build)
    targets: tuple[Target, ...] = DEFAULT_TARGETS
    sign: Sign = field(default_factory=Sign)
    docker: Docker = field(default_factory=Docker)
    linuxkit: LinuxKit = field(default_factory=LinuxKit)

    def to_targets(self) -> list[Target]:
        """The platforms to build for."""
        return list(self.targets)


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
