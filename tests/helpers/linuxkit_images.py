"""OCI images for LinuxKit files: made of what the default image has, so nothing is fetched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from core_infra._host import SHORT_NAMES
from core_infra.vm._cache import cache_root
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.linuxkit.archives import content, read_cpio
from core_infra.vm._images.linuxkit.containers import LABEL
from oci_images import Entry, folder, layer, link, write_layout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from core_infra.vm._images.disk.tree import Node


def default_tree(arch: str = "") -> Node:
    """The files of the default image, by default of this host's architecture."""
    initrd = default_image(arch or host_arch(), cache_dir=cache_root()).initrd
    assert initrd is not None
    return read_cpio(initrd)


def busybox(arch: str = "") -> bytes:
    """A static busybox, by default for this host's architecture."""
    node = default_tree(arch).entries[b"usr"].entries[b"bin"].entries[b"busybox"]
    return b"".join(content(node))


def write_busybox(
    directory: Path,
    *,
    label: dict[str, Any] | None = None,
    more: Sequence[Entry] = (),
    arch: str = "",
    **config: Any,
) -> str:
    """Write an OCI layout with an image of busybox; return its address."""
    entries = [
        folder("bin"),
        Entry("bin/busybox", data=busybox(arch), mode=0o755),
        link("bin/sh", "busybox"),
        *more,
    ]
    config.setdefault("Env", ["PATH=/bin"])
    if label is not None:
        config["Labels"] = {LABEL: json.dumps(label)}
    architecture = SHORT_NAMES[arch or host_arch()]
    write_layout(directory, [layer(entries)], config=config, architecture=architecture)
    return f"oci-layout:{directory}"
