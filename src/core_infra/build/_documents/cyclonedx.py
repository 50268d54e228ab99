"""CycloneDX documents; importing this module needs the extra ``build``."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Protocol

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from core_infra.build._artifact import Artifact


class Dependency(Protocol):
    """A package and its version; see :class:`core_infra.build.Dependency`."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


def document(
    name: str,
    version: str,
    artifacts: Iterable[Artifact],
    dependencies: Iterable[Dependency],
    *,
    when: datetime,
    unread: Iterable[str] = (),
) -> str:
    """Return the document of a release as JSON: its files and its dependencies."""
    root = Component(name=name, version=version, type=ComponentType.APPLICATION, bom_ref="project")
    used = sorted(set(dependencies), key=lambda one: (one.kind, one.name, one.version))
    parts = [_package(one) for one in used]
    files = [_file(one) for one in sorted(artifacts, key=lambda one: one.name)]
    seed = [name, version, when.isoformat()]
    seed += [str(part.purl) for part in parts]
    seed += [f"{one.hashes[0].content} {one.name}" for one in files]
    bom = Bom(
        components=[*parts, *files],
        # A random serial number would make the build irreproducible.
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(seed)),
        metadata=BomMetaData(
            component=root,
            timestamp=when,
            properties=[Property(name="core-infra:unread", value=one) for one in unread],
        ),
    )
    # Without a lock file, it depends on its files: cyclonedx warns of a root without dependencies.
    bom.register_dependency(root, parts or files)
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _package(one: Dependency) -> Component:
    namespace, _, name = one.name.rpartition("/")
    purl = PackageURL(one.kind, namespace or None, name, one.version or None)
    return Component(
        group=namespace or None,
        name=name,
        version=one.version or None,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
    )


def _file(one: Artifact) -> Component:
    return Component(
        name=one.name,
        type=ComponentType.FILE,
        bom_ref=f"file:{one.name}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.checksum)],
    )
