"""From a project's directory to artifacts that others can verify."""

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
from core_infra.build._artifact import Artifact, Target
from core_infra.build._compare import Difference, Side, first_difference
from core_infra.build._config.load import (
    config_exists,
    config_path,
    load_config,
)
from core_infra.build._config.settings import BuildConfig
from core_infra.build._documents.checksums import (
    checksum,
    checksum_all,
    read_checksum_file,
    write_checksum_file,
)
from core_infra.build._documents.manifest import read_manifest, write_manifest
from core_infra.build._documents.provenance import Source, write_provenance
from core_infra.build._documents.sbom import Dependency, dependencies, write_sbom
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
from core_infra.build._verify import VerificationReport, verify_release

__all__ = [
    "Artifact",
    "BuildConfig",
    "Dependency",
    "Difference",
    "Finding",
    "Format",
    "Profile",
    "ProjectType",
    "Side",
    "Source",
    "Target",
    "VerificationReport",
    "archive",
    "archive_all",
    "archive_all_with_format",
    "archive_all_xz",
    "archive_path",
    "archive_with_format",
    "archive_xz",
    "checksum",
    "checksum_all",
    "config_exists",
    "config_path",
    "dependencies",
    "discover",
    "explain",
    "first_difference",
    "is_cpp_project",
    "is_go_project",
    "is_node_project",
    "is_php_project",
    "is_wails_project",
    "load_config",
    "primary_type",
    "read_checksum_file",
    "read_manifest",
    "verify_release",
    "write_checksum_file",
    "write_manifest",
    "write_provenance",
    "write_sbom",
]
