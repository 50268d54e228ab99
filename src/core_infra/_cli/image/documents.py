"""The documents of a LinuxKit image: what it was made of, and the packages inside."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from core_infra.build import (
    Artifact,
    Dependency,
    Source,
    checksum,
    write_provenance,
    write_sbom,
)
from core_infra.build._archives.contents import source_date_epoch
from core_infra.build._documents.provenance import PROVENANCE
from core_infra.build._documents.sbom import SBOM
from core_infra.medium import LocalMedium
from core_infra.vm._images.oci.reference import SCHEMES

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm._images.linuxkit.contents import Contents

_BUILDER = "urn:core-infra:image-build"
"""The same for every host: so are the bytes of what is built."""


def write_documents(directory: Path, contents: Contents, *, name: str, arch: str) -> None:
    """Write the SBOM and the provenance of the files of an image, beside them.

    Args:
        directory: where the files are, and nothing else.
        contents: what they were made of.
        name: what their names begin with.
        arch: the machine's architecture.

    Raises:
        ToolMissingError: the extra ``build`` is not installed.
    """
    medium, epoch = LocalMedium(), source_date_epoch()
    files = [checksum(medium, Artifact(str(path))) for path in sorted(directory.iterdir())]
    images = [Dependency("oci", _short(one), digest) for one, digest in contents.images.items()]
    packages = [Dependency(one.kind, one.name, one.version) for one in contents.packages]
    write_sbom(
        medium,
        str(directory / f"{name}-{SBOM}"),
        name=name,
        version="",
        artifacts=files,
        dependencies=[*images, *packages],
        epoch=epoch,
    )
    write_provenance(
        medium,
        files,
        str(directory / f"{name}-{PROVENANCE}"),
        builder=_BUILDER,
        parameters={"type": "linuxkit", "name": name, "arch": arch},
        tools={"core-infra": version("core-infra")},
        sources=[_source(address, digest) for address, digest in contents.images.items()],
        epoch=epoch,
    )


def _short(address: str) -> str:
    """The name of an image in package URLs: the last part of its repository."""
    scheme = next(filter(address.startswith, SCHEMES), "")
    path = address.removeprefix(scheme).partition("@")[0]
    return path.rpartition("/")[2].partition(":")[0].lower()


def _source(address: str, digest: str) -> Source:
    algorithm, _, value = digest.partition(":")
    uri = address if address.startswith(SCHEMES) else f"oci:{address}"
    return Source(uri, {algorithm: value})
