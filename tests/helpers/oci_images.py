"""Makes OCI images of layers that are lists of entries."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """An entry of a layer."""

    name: str
    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    link: str = ""
    device: tuple[int, int] = (0, 0)
    mtime: int = 1_000_000_000
    xattrs: dict[str, str] = field(default_factory=dict, hash=False)


def folder(name: str, mode: int = 0o755, **more: Any) -> Entry:
    return Entry(name, tarfile.DIRTYPE, mode=mode, **more)


def link(name: str, target: str) -> Entry:
    return Entry(name, tarfile.SYMTYPE, link=target, mode=0o777)


def hard_link(name: str, target: str) -> Entry:
    return Entry(name, tarfile.LNKTYPE, link=target)


def layer(entries: Sequence[Entry]) -> bytes:
    """The archive of a layer."""
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.mtime = entry.kind, entry.mode, entry.mtime
            info.uid, info.gid = entry.owner
            info.linkname = entry.link
            info.devmajor, info.devminor = entry.device
            info.size = len(entry.data)
            info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in entry.xattrs.items()}
            archive.addfile(info, io.BytesIO(entry.data))
    return result.getvalue()


def write_layout(
    directory: Path,
    layers: Sequence[bytes],
    *,
    config: dict[str, Any] | None = None,
    packed: Callable[[bytes], bytes] = lambda data: gzip.compress(data, 1, mtime=0),
    media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip",
    architecture: str = "amd64",
    system: str = "linux",
    config_type: str = "application/vnd.oci.image.config.v1+json",
    name: str = "latest",
) -> str:
    """Write an image layout with one image; return its manifest's digest."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def add(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    document = {
        "architecture": architecture,
        "os": system,
        "config": config or {},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add(json.dumps(document).encode(), config_type),
        "layers": [add(packed(data), media_type) for data in layers],
    }
    entry = add(json.dumps(manifest).encode(), str(manifest["mediaType"]))
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [entry]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    digest: str = entry["digest"]
    return digest
