"""From a project's directory to artifacts that others can verify.

::

    from core_infra.build import carry_out, make_plan

    result = carry_out(make_plan("my-project", goal="package"))
    print([artifact.path for artifact in result.artifacts])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra import _lazy

if TYPE_CHECKING:
    from core_infra.build._archives.archive import (
        Format,
        Profile,
        archive,
        archive_all,
        archive_all_with_format,
        archive_all_xz,
        archive_path,
        archive_with_format,
        archive_xz,
    )
    from core_infra.build._artifact import Artifact, Target, host_target
    from core_infra.build._builders.builder import Builder
    from core_infra.build._builders.cpp import CppBuilder
    from core_infra.build._builders.docker import DockerBuilder
    from core_infra.build._builders.docs import DocsBuilder
    from core_infra.build._builders.go import GoBuilder
    from core_infra.build._builders.linuxkit import LinuxKitBuilder
    from core_infra.build._builders.node import NodeBuilder
    from core_infra.build._builders.php import PhpBuilder
    from core_infra.build._builders.python import PythonBuilder
    from core_infra.build._builders.registry import BUILDERS
    from core_infra.build._builders.rust import RustBuilder
    from core_infra.build._builders.steps import BuildContext, BuilderPlan, Command, Step, Tool
    from core_infra.build._builders.taskfile import TaskfileBuilder
    from core_infra.build._builders.wails import WailsBuilder
    from core_infra.build._compare import Difference, Side, first_difference
    from core_infra.build._config.load import config_exists, config_path, load_config
    from core_infra.build._config.settings import (
        ArchiveSettings,
        BuildConfig,
        BuildSettings,
        ChangelogSettings,
        DockerSettings,
        ForgeSettings,
        HookSettings,
        LinuxKitSettings,
        NamedBuild,
        OciSettings,
        PackageSettings,
        ProjectSettings,
        PublishSettings,
        SigningSettings,
    )
    from core_infra.build._documents.checksums import (
        checksum,
        checksum_all,
        read_checksum_file,
        write_checksum_file,
    )
    from core_infra.build._documents.lock_files.dependency import Dependency
    from core_infra.build._documents.lock_files.read import dependencies
    from core_infra.build._documents.manifest import ManifestEntry, read_manifest, write_manifest
    from core_infra.build._documents.provenance import Source, write_provenance
    from core_infra.build._documents.sbom import write_sbom
    from core_infra.build._errors import (
        ArchiveError,
        ArtifactError,
        ArtifactMissingError,
        BuildFailedError,
        ChecksumError,
        ConfigError,
        NotReproducibleError,
        PreflightError,
        PublishError,
        PublishInterruptedError,
        SigningError,
        SigningUnavailableError,
        SourcesError,
        ToolMissingError,
        VerificationError,
    )
    from core_infra.build._pipeline import BuildResult, carry_out
    from core_infra.build._plan import BuildPlan, DiskSpace, FoundTool, Goal, Packing, SigningKey
    from core_infra.build._preflight import make_merge_plan, make_plan
    from core_infra.build._project import (
        Finding,
        ProjectType,
        discover,
        explain,
        is_cpp_project,
        is_go_project,
        is_node_project,
        is_php_project,
        is_wails_project,
        primary_type,
    )
    from core_infra.build._publish.publish import publish_release, publish_requests
    from core_infra.build._secret import Secret
    from core_infra.build._signing.choose import Signers, choose_signers
    from core_infra.build._signing.gpg import GpgSigner, Signature, verify_gpg
    from core_infra.build._signing.key import KeySigner, verify_key
    from core_infra.build._signing.macos import AppleNotary, CodesignSigner
    from core_infra.build._signing.signer import Signer
    from core_infra.build._signing.sigstore import SigstoreSigner, verify_sigstore
    from core_infra.build._signing.windows import OsslSigner, SigntoolSigner
    from core_infra.build._verify import Check, VerificationReport, verify_release
else:
    __getattr__ = _lazy.exports(
        __name__,
        {
            "._archives.archive": (
                "Format",
                "Profile",
                "archive",
                "archive_all",
                "archive_all_with_format",
                "archive_all_xz",
                "archive_path",
                "archive_with_format",
                "archive_xz",
            ),
            "._artifact": ("Artifact", "Target", "host_target"),
            "._builders.builder": ("Builder",),
            "._builders.cpp": ("CppBuilder",),
            "._builders.docker": ("DockerBuilder",),
            "._builders.docs": ("DocsBuilder",),
            "._builders.go": ("GoBuilder",),
            "._builders.linuxkit": ("LinuxKitBuilder",),
            "._builders.node": ("NodeBuilder",),
            "._builders.php": ("PhpBuilder",),
            "._builders.python": ("PythonBuilder",),
            "._builders.registry": ("BUILDERS",),
            "._builders.rust": ("RustBuilder",),
            "._builders.steps": ("BuildContext", "BuilderPlan", "Command", "Step", "Tool"),
            "._builders.taskfile": ("TaskfileBuilder",),
            "._builders.wails": ("WailsBuilder",),
            "._compare": ("Difference", "Side", "first_difference"),
            "._config.load": ("config_exists", "config_path", "load_config"),
            "._config.settings": (
                "ArchiveSettings",
                "BuildConfig",
                "BuildSettings",
                "ChangelogSettings",
                "DockerSettings",
                "HookSettings",
                "ForgeSettings",
                "LinuxKitSettings",
                "NamedBuild",
                "OciSettings",
                "PackageSettings",
                "ProjectSettings",
                "PublishSettings",
                "SigningSettings",
            ),
            "._documents.checksums": (
                "checksum",
                "checksum_all",
                "read_checksum_file",
                "write_checksum_file",
            ),
            "._documents.manifest": ("ManifestEntry", "read_manifest", "write_manifest"),
            "._documents.provenance": ("Source", "write_provenance"),
            "._documents.lock_files.dependency": ("Dependency",),
            "._documents.lock_files.read": ("dependencies",),
            "._documents.sbom": ("write_sbom",),
            "._errors": (
                "ArchiveError",
                "ArtifactError",
                "ArtifactMissingError",
                "BuildFailedError",
                "ChecksumError",
                "ConfigError",
                "NotReproducibleError",
                "PreflightError",
                "PublishError",
                "PublishInterruptedError",
                "SigningError",
                "SigningUnavailableError",
                "SourcesError",
                "ToolMissingError",
                "VerificationError",
            ),
            "._pipeline": ("BuildResult", "carry_out"),
            "._plan": ("BuildPlan", "DiskSpace", "FoundTool", "Goal", "Packing", "SigningKey"),
            "._preflight": ("make_merge_plan", "make_plan"),
            "._project": (
                "Finding",
                "ProjectType",
                "discover",
                "explain",
                "is_cpp_project",
                "is_go_project",
                "is_node_project",
                "is_php_project",
                "is_wails_project",
                "primary_type",
            ),
            "._publish.publish": ("publish_release", "publish_requests"),
            "._secret": ("Secret",),
            "._signing.choose": ("Signers", "choose_signers"),
            "._signing.gpg": ("GpgSigner", "Signature", "verify_gpg"),
            "._signing.key": ("KeySigner", "verify_key"),
            "._signing.macos": ("AppleNotary", "CodesignSigner"),
            "._signing.signer": ("Signer",),
            "._signing.sigstore": ("SigstoreSigner", "verify_sigstore"),
            "._signing.windows": ("OsslSigner", "SigntoolSigner"),
            "._verify": ("Check", "VerificationReport", "verify_release"),
        },
    )

__all__ = [
    "BUILDERS",
    "AppleNotary",
    "ArchiveError",
    "ArchiveSettings",
    "Artifact",
    "ArtifactError",
    "ArtifactMissingError",
    "BuildConfig",
    "BuildContext",
    "BuildFailedError",
    "BuildPlan",
    "BuildResult",
    "BuildSettings",
    "Builder",
    "BuilderPlan",
    "ChangelogSettings",
    "Check",
    "ChecksumError",
    "CodesignSigner",
    "Command",
    "ConfigError",
    "CppBuilder",
    "Dependency",
    "Difference",
    "DiskSpace",
    "DockerBuilder",
    "DockerSettings",
    "DocsBuilder",
    "Finding",
    "ForgeSettings",
    "Format",
    "FoundTool",
    "GoBuilder",
    "Goal",
    "GpgSigner",
    "HookSettings",
    "KeySigner",
    "LinuxKitBuilder",
    "LinuxKitSettings",
    "ManifestEntry",
    "NamedBuild",
    "NodeBuilder",
    "NotReproducibleError",
    "OciSettings",
    "OsslSigner",
    "PackageSettings",
    "Packing",
    "PhpBuilder",
    "PreflightError",
    "Profile",
    "ProjectSettings",
    "ProjectType",
    "PublishError",
    "PublishInterruptedError",
    "PublishSettings",
    "PythonBuilder",
    "RustBuilder",
    "Secret",
    "Side",
    "Signature",
    "Signer",
    "Signers",
    "SigningError",
    "SigningKey",
    "SigningSettings",
    "SigningUnavailableError",
    "SigntoolSigner",
    "SigstoreSigner",
    "Source",
    "SourcesError",
    "Step",
    "Target",
    "TaskfileBuilder",
    "Tool",
    "ToolMissingError",
    "VerificationError",
    "VerificationReport",
    "WailsBuilder",
    "archive",
    "archive_all",
    "archive_all_with_format",
    "archive_all_xz",
    "archive_path",
    "archive_with_format",
    "archive_xz",
    "carry_out",
    "checksum",
    "checksum_all",
    "choose_signers",
    "config_exists",
    "config_path",
    "dependencies",
    "discover",
    "explain",
    "first_difference",
    "host_target",
    "is_cpp_project",
    "is_go_project",
    "is_node_project",
    "is_php_project",
    "is_wails_project",
    "load_config",
    "make_merge_plan",
    "make_plan",
    "primary_type",
    "publish_release",
    "publish_requests",
    "read_checksum_file",
    "read_manifest",
    "verify_gpg",
    "verify_key",
    "verify_release",
    "verify_sigstore",
    "write_checksum_file",
    "write_manifest",
    "write_provenance",
    "write_sbom",
]
