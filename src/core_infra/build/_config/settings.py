"""What a project may say about its build, and what it is if it says nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core_infra.build._artifact import Target
from core_infra.build._secret import NO_SECRET, Secret

if TYPE_CHECKING:
    from core_infra.build._project import ProjectType

DEFAULT_TARGETS = (
    Target("linux", "amd64"),
    Target("linux", "arm64"),
    Target("darwin", "arm64"),
    Target("windows", "amd64"),
)


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

    version: int = 1
    project: Project = field(default_factory=Project)
    build: Build = field(default_factory=Build)
    targets: tuple[Target, ...] = DEFAULT_TARGETS
    sign: Sign = field(default_factory=Sign)
    docker: Docker = field(default_factory=Docker)
    linuxkit: LinuxKit = field(default_factory=LinuxKit)

    def to_targets(self) -> list[Target]:
        """The platforms to build for."""
        return list(self.targets)
