"""Unpacks the layers of an image, checks them, and merges them into one tree."""

from __future__ import annotations

import hashlib
import tarfile
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._images.compression import is_packed_file, unpacked
from core_infra.vm._images.oci.layers import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core_infra.vm._images.disk.tree import Node
    from core_infra.vm._images.oci.manifest import OciImage

_CHUNK = 1 << 20


def image_tree(image: OciImage, work: Path, progress: Callable[[str], None]) -> Node:
    """Return the tree of an image's files.

    Args:
        image: the image.
        work: where its layers are unpacked to, a file each. They must stay for as long as the
            tree's content is read.
        progress: is called with a line of text before anything slow.

    Raises:
        InvalidError: a layer is damaged, or is not what the image's configuration says.
    """
    layers = []
    for number, (layer, digest) in enumerate(zip(image.layers, image.unpacked, strict=True), 1):
        progress(f"unpacking layer {number} of {len(image.layers)}")
        path = work / f"layer-{number}.tar"
        found = unpack(image.store.path(layer.digest), path)
        if found != digest:
            raise InvalidError(
                f"layer {number} of the image is not what its configuration says",
                why=f"{digest} is expected, and {found} was unpacked",
            )
        layers.append(path)
    return merge(layers)


def unpack(packed: Path, target: Path) -> str:
    """Write what an archive unpacks to into a file; return the digest of the content.

    Raises:
        InvalidError: it is damaged, or cut off.
    """
    total = hashlib.sha256()
    with target.open("wb") as file:
        for piece in _content(packed):
            total.update(piece)
            file.write(piece)
        # Some tools leave the padding out, and the end of the archive.
        file.write(bytes(-file.tell() % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE))
    return f"sha256:{total.hexdigest()}"


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file_:
        head = file_.read(8)
        if is_packed_file(head):
            yield from unpacked(path, _CHUNK)
            return
        file_.seek(0)
        while piece := file_.read(_CHUNK):
            yield piece
