"""The settings of ``.core/build.yaml``, and their defaults."""

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
class ProjectSettings:
    """The section ``project``: names.

    Attributes:
        name: the project's name.
        description: a sentence about it.
        main: the package or file to build, relative to the project's directory.
        binary: the program's file name, if it differs from the project's name.
        type: the type of project, if it differs from the discovered one.
        tag_prefix: the text before the version in the project's tags: ``app-`` for ``app-v1.2.3``.
    """

    name: str = ""
    description: str = ""
    main: str = "."
    binary: str = ""
    type: ProjectType | None = None
    tag_prefix: str = ""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """The section ``build``: how to compile.

    Attributes:
        cgo: whether Go may call C.
        flags: flags of the build command.
        ldflags: flags of the linker.
        env: environment variables, ``NAME=value`` each.
        stamp: the values of Go's string variables, by their names: ``main.commit``. ``{version}``,
            ``{commit}`` and ``{date}`` (of the commit) are replaced.
    """

    cgo: bool = False
    flags: tuple[str, ...] = ("-trimpath",)
    ldflags: tuple[str, ...] = ("-s", "-w")
    env: tuple[str, ...] = ()
    stamp: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """The section ``archive``: the names of archives, and what is in them besides the program.

    Attributes:
        name: the name without its extension; ``{name}``, ``{version}``, ``{os}`` and ``{arch}`` are
            replaced. Empty for the name, the system and the architecture.
        files: patterns of files of the project that each archive of a program contains as well.
        wrap: whether everything is in a directory with the archive's name.
    """

    name: str = ""
    files: tuple[str, ...] = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "README*")
    wrap: bool = False


@dataclass(frozen=True, slots=True)
class HookSettings:
    """The section ``hooks``: commands of the project, each for ``/bin/sh``.

    Attributes:
        before: run once in each copy of the sources.
        before_build: run before each target is built, in its copy.
        after_build: run after each target was built; may change and add artifacts.
        before_archive: run when all targets are built, before anything is archived.
        after_archive: run when everything is archived; may add files to the release.
    """

    before: tuple[str, ...] = ()
    before_build: tuple[str, ...] = ()
    after_build: tuple[str, ...] = ()
    before_archive: tuple[str, ...] = ()
    after_archive: tuple[str, ...] = ()

    @property
    def in_builds(self) -> bool:
        """Whether any of them runs in the copy of the sources that is built."""
        return bool(self.before or self.before_build or self.after_build)


@dataclass(frozen=True, slots=True)
class SigningSettings:
    """The section ``sign``; an empty value disables that signature.

    Attributes:
        enabled: whether anything is signed.
        key: the private key in PEM that signs the checksums and the provenance: the path of a
            file, or ``env://NAME``.
        key_passphrase: its passphrase, only from ``SIGNING_KEY_PASSPHRASE``.
        gpg_key: the key that signs the checksums by gpg.
        gpg_passphrase: its passphrase, only from ``GPG_PASSPHRASE``.
        sigstore_identity: who signs the checksums by sigstore: an address, or a workflow's URL.
        sigstore_issuer: the URL of the identity provider.
        macos_identity: the identity for codesign.
        macos_notarize: whether to submit programs to Apple for notarization.
        apple_id: the account for notarization.
        apple_team_id: the account's team.
        apple_app_password: the account's app-specific password.
        windows_certificate: the path of a PKCS #12 file, or a thumbprint for signtool.
        windows_password: the file's password.
        unset: variables that the configuration uses but that are not set in the environment.
    """

    enabled: bool = True
    key: str = ""
    key_passphrase: Secret = NO_SECRET
    gpg_key: str = ""
    gpg_passphrase: Secret = NO_SECRET
    sigstore_identity: str = ""
    sigstore_issuer: str = ""
    macos_identity: str = ""
    macos_notarize: bool = False
    apple_id: str = ""
    apple_team_id: str = ""
    apple_app_password: Secret = NO_SECRET
    windows_certificate: str = ""
    windows_password: Secret = NO_SECRET
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PackageSettings:
    """The section ``packages``: packages of the programs for Linux distributions.

    Attributes:
        formats: ``deb`` and ``rpm``; empty for none.
        maintainer: who maintains them, as ``NAME <ADDRESS>``.
        homepage: the project's address.
        license: the licence, as an SPDX identifier.
        deb_depends: what a deb needs, as in ``Depends``.
        rpm_depends: what an rpm needs, as in ``Requires``.
        files: further files of the project, each with its absolute path on the system.
    """

    formats: tuple[str, ...] = ()
    maintainer: str = ""
    homepage: str = ""
    license: str = ""
    deb_depends: tuple[str, ...] = ()
    rpm_depends: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class OciSettings:
    """The section ``oci``: an OCI image of the programs, without Docker.

    Attributes:
        image: its name, with its registry; empty for none.
        entrypoint: the program that it runs; by default the one with the project's name.
        user: the user and group that it runs as.
        files: further files of the project, each with its absolute path in the image.
    """

    image: str = ""
    entrypoint: str = ""
    user: str = "65532:65532"
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ChangelogSettings:
    """The section ``changelog``: where the notes of a release come from.

    Attributes:
        source: ``file``: the version's section in the file; ``commits``: the commits since the last
            version; ``auto``: the section if there is one, else the commits; or ``none``.
        file: the file, relative to the project's directory.
    """

    source: str = "auto"
    file: str = "CHANGELOG.md"


@dataclass(frozen=True, slots=True)
class ForgeSettings:
    """A repository on a forge, for its releases.

    Attributes:
        kind: ``github`` or ``forgejo``.
        repository: ``OWNER/NAME``.
        url: the address of the API (GitHub) or the server (Forgejo).
        draft: whether the release stays a draft.
    """

    kind: str
    repository: str
    url: str
    draft: bool = False


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """The section ``publish``: where ``core-infra release --publish`` publishes.

    Attributes:
        forges: the repositories on forges.
        pypi: the upload address of a Python package index; empty for none.
        image: whether the image of ``oci`` is pushed to its registry.
    """

    forges: tuple[ForgeSettings, ...] = ()
    pypi: str = ""
    image: bool = False

    def __bool__(self) -> bool:
        return bool(self.forges or self.pypi or self.image)


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """The section ``docker``: what the Docker builder makes.

    Attributes:
        dockerfile: the path of the Dockerfile, relative to the project's directory.
        image: the image's name, with its registry.
        tags: the image's tags.
        build_args: build arguments, ``NAME=value`` each.
    """

    dockerfile: str = "Dockerfile"
    image: str = ""
    tags: tuple[str, ...] = ()
    build_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinuxKitSettings:
    """The section ``linuxkit``: what the LinuxKit builder makes.

    Attributes:
        config: the YAML file, relative to the project's directory; empty for the discovered one.
        formats: what the image is written as; the program linuxkit has more of them.
        assembler: what builds the image, ``core-infra`` or ``linuxkit``; empty chooses the first if
            it writes these formats and no flags are given.
    """

    config: str = ""
    formats: tuple[str, ...] = ()
    assembler: str = ""


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """A whole configuration; without arguments, the defaults.

    Attributes:
        version: the version of the file format.
        project: names.
        build: how to compile.
        targets: the platforms to build for; never empty.
        sign: keys and certificates.
        archive: the archives of a release.
        hooks: commands of the project.
        packages: packages for Linux distributions.
        oci: an OCI image of the programs.
        changelog: where the notes of a release come from.
        publish: where a release is published.
        docker: settings of the Docker builder.
        linuxkit: settings of the LinuxKit builder.
        builds: several builds of the project; empty for one.
    """

    version: int = 1
    project: ProjectSettings = field(default_factory=ProjectSettings)
    build: BuildSettings = field(default_factory=BuildSettings)
    targets: tuple[Target, ...] = DEFAULT_TARGETS
    sign: SigningSettings = field(default_factory=SigningSettings)
    archive: ArchiveSettings = field(default_factory=ArchiveSettings)
    hooks: HookSettings = field(default_factory=HookSettings)
    packages: PackageSettings = field(default_factory=PackageSettings)
    oci: OciSettings = field(default_factory=OciSettings)
    changelog: ChangelogSettings = field(default_factory=ChangelogSettings)
    publish: PublishSettings = field(default_factory=PublishSettings)
    docker: DockerSettings = field(default_factory=DockerSettings)
    linuxkit: LinuxKitSettings = field(default_factory=LinuxKitSettings)
    builds: tuple[NamedBuild, ...] = ()

    def to_targets(self) -> list[Target]:
        """Return the platforms to build for."""
        return list(self.targets)


@dataclass(frozen=True, slots=True)
class NamedBuild:
    """One of ``builds``: several builds of a project.

    Attributes:
        name: its name, and that of its artifacts.
        directory: its directory, relative to the project's.
        config: its settings: those of the file, with what the entry changes.
        has_own_release: whether its tags have a prefix of their own, so that it is released alone.
            The others are released together, with the project's version.
    """

    name: str
    directory: str
    config: BuildConfig
    has_own_release: bool = False
