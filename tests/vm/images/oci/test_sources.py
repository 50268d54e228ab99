"""Images by address, all of whose parts are on this host."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm._images.oci.sources import find_oci
from oci_images import Entry, layer, write_layout

if TYPE_CHECKING:
    from pathlib import Path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def test_a_layout_of_an_index_gives_each_architecture_its_own_image(tmp_path: Path) -> None:
    layout, layers = tmp_path / "layout", [layer([Entry("f", data=b"1")])]
    blobs = layout / "blobs" / "sha256"

    def entry(system: str, machine: str, **more: Any) -> dict[str, Any]:
        digest = write_layout(layout, layers, architecture=machine, **more)
        platform = {"os": system, "architecture": machine}
        size = (blobs / digest[7:]).stat().st_size
        return {"digest": digest, "size": size, "platform": platform}

    zstd_type = "application/vnd.oci.image.layer.v1.tar+zstd"
    entries = [
        entry("unknown", "unknown"),  # an attestation
        entry("linux", "arm64"),
        entry("linux", "amd64", packed=zstd.compress, media_type=zstd_type),
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    digest = hashlib.sha256(index).hexdigest()
    (blobs / digest).write_bytes(index)
    named = [{"digest": f"sha256:{digest}", "size": len(index)}]
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": named}))

    def found(arch: str) -> str:
        address = f"oci-layout:{layout}"
        return find_oci(address, arch, cache_dir=tmp_path, progress=lambda _line: None).digest

    assert [found("aarch64"), found("x86_64")] == [one["digest"] for one in entries[1:]]
    without = json.dumps({"schemaVersion": 2, "manifests": entries[:2]}).encode()
    digest = hashlib.sha256(without).hexdigest()
    (blobs / digest).write_bytes(without)
    named = [{"digest": f"sha256:{digest}", "size": len(without)}]
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": named}))
    with pytest.raises(
        NotFoundError, match=r"no version for linux/amd64: it has linux/arm64\nRun it .*aarch64"
    ):
        found("x86_64")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"system": "windows"}, "no version for linux/amd64: it is for windows/amd64$"),
        (
            {"config_type": "application/vnd.cncf.helm.config.v1+json"},
            "not the image of a system: it is an artifact, whose configuration is .*helm",
        ),
        (
            {"media_type": "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"},
            "layers are encrypted\nDecrypt a copy",
        ),
    ],
)
def test_what_no_machine_can_run_is_one_clear_error(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_layout(tmp_path / "layout", [layer([Entry("f")])], **options)
    address = f"oci-layout:{tmp_path / 'layout'}"
    with pytest.raises((InvalidError, NotFoundError), match=message):
        find_oci(address, "x86_64", cache_dir=tmp_path, progress=lambda _line: None)
