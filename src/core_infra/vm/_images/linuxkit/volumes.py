"""Volumes that hold an image itself, as an OCI layout."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

from core_infra._host import SHORT_NAMES
from core_infra.vm._images.disk.tree import Node, Piece, directory, text_file
from core_infra.vm._images.linuxkit.notations import platform
from core_infra.vm._images.oci.manifest import LARGEST, MANIFESTS

if TYPE_CHECKING:
    from core_infra.vm._images.linuxkit.plan import Plan
    from core_infra.vm._images.linuxkit.readers import Values
    from core_infra.vm._images.oci.manifest import OciImage

_NAME = "org.opencontainers.image.ref.name"


def write_layout(volume: Values, plan: Plan) -> Node:
    """Return the tree of an OCI layout with an image: for all platforms, or for those given."""
    address = volume["image"]
    wanted = {platform(name) for name in volume.get("platforms") or ()}
    blobs: dict[str, Node] = {}
    entries: list[dict[str, Any]] = []
    for arch, image in sorted(plan.layouts[address].items(), key=lambda one: SHORT_NAMES[one[0]]):
        if not wanted or f"linux/{SHORT_NAMES[arch]}" in wanted:
            entries.append(_add(image, arch, address, blobs))
    tree, folder = directory(), directory()
    folder.entries[b"sha256"] = directory()
    folder.entries[b"sha256"].entries = {name.encode(): blobs[name] for name in sorted(blobs)}
    index = {"schemaVersion": 2, "manifests": entries}
    tree.entries = {
        b"blobs": folder,
        b"index.json": text_file(json.dumps(index, indent=1)),
        b"oci-layout": text_file('{"imageLayoutVersion": "1.0.0"}'),
    }
    return tree


def _add(image: OciImage, arch: str, address: str, blobs: dict[str, Node]) -> dict[str, Any]:
    data = image.store.read(image.digest, LARGEST)
    manifest = json.loads(data)
    config = manifest["config"]["digest"]
    for digest in (image.digest, config, *(layer.digest for layer in image.layers)):
        path = image.store.path(digest)
        size = path.stat().st_size
        node = Node(stat.S_IFREG | 0o644, size=size, pieces=(Piece(0, size, path),))
        blobs[digest.removeprefix("sha256:")] = node
    return {
        "mediaType": manifest.get("mediaType") or MANIFESTS[0],
        "digest": image.digest,
        "size": len(data),
        "platform": {"os": "linux", "architecture": SHORT_NAMES[arch]},
        "annotations": {_NAME: address},
    }
