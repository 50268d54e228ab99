"""The SBOM and the provenance of a LinuxKit image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from core_infra._cli.main import main
from core_infra.vm._images.linuxkit.contents import installed_packages
from core_infra.vm._images.oci.layers import merge
from oci_images import Entry, layer, link, write_layout

if TYPE_CHECKING:
    from pathlib import Path

STATUS = b"""\
Package: openssl
Status: install ok installed
Version: 1:3.0-1
Description: first line
 Package: not-a-field

Package: removed
Status: deinstall ok config-files
Version: 1
"""
FILE = """\
kernel: {image: 'oci-layout:kernel'}
init: ['oci-layout:first:latest']
services:
- {name: web, image: 'oci-layout:web', command: [serve]}
"""


def packages_in(tmp_path: Path, *entries: Entry) -> list[tuple[str, str, str]]:
    path = tmp_path / "layer.tar"
    path.write_bytes(layer(entries))
    found = installed_packages(merge([path]))
    return [(one.kind, one.name, one.version) for one in found]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param(
            [Entry("var/lib/dpkg/status", data=STATUS)],
            [("deb", "debian/openssl", "1:3.0-1")],
            id="dpkg",
        ),
        pytest.param(
            [
                Entry("var/lib/dpkg/status", data=STATUS),
                Entry("usr/lib/os-release", data=b'NAME="Ubuntu"\nID=ubuntu\n'),
                link("etc/os-release", "../usr/lib/os-release"),
            ],
            [("deb", "ubuntu/openssl", "1:3.0-1")],
            id="of-another-distribution",
        ),
        pytest.param(
            [
                Entry("var/lib/dpkg/status.d/base", data=b"Package: base-files\nVersion: 12\n"),
                Entry("var/lib/dpkg/status.d/base.md5sums", data=b"Package: x\nVersion: 1\n"),
            ],
            [("deb", "debian/base-files", "12")],
            id="distroless",
        ),
        pytest.param(
            [Entry("lib/apk/db/installed", data=b"C:Q1\nP:musl\nV:1.2-r0\n\nP:zlib\nV:1.3-r1\n")],
            [("apk", "alpine/musl", "1.2-r0"), ("apk", "alpine/zlib", "1.3-r1")],
            id="apk",
        ),
    ],
)
def test_the_databases_of_package_managers_are_read(
    tmp_path: Path, entries: list[Entry], expected: list[tuple[str, str, str]]
) -> None:
    assert packages_in(tmp_path, *entries) == expected


def built(monkeypatch: pytest.MonkeyPatch, project: Path, *options: str) -> dict[str, bytes]:
    images = {
        "kernel": [Entry("kernel", data=b"kernel")],
        "first": [Entry("init", mode=0o755), Entry("lib/apk/db/installed", data=b"P:musl\nV:1\n")],
        "web": [Entry("var/lib/dpkg/status", data=STATUS)],
    }
    for name, entries in images.items():
        write_layout(project / name, [layer(entries)])
    (project / "web.yml").write_text(FILE)
    monkeypatch.chdir(project)
    result = CliRunner().invoke(main, ["image", "build", "--dir", "out", *options, "web.yml"])
    assert result.exit_code == 0, result.output
    return {path.name: path.read_bytes() for path in (project / "out").iterdir()}


def test_the_documents_name_the_images_and_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = built(monkeypatch, tmp_path, "--documents")
    text = files["web-sbom.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components: list[dict[str, Any]] = json.loads(text)["components"]
    addresses = [one["purl"] for one in components if "purl" in one]
    assert "pkg:apk/alpine/musl@1" in addresses
    assert "pkg:deb/debian/openssl@1:3.0-1" in addresses
    names = [one.partition("@")[0] for one in addresses if one.startswith("pkg:oci")]
    assert names == ["pkg:oci/first", "pkg:oci/kernel", "pkg:oci/web"]

    provenance = json.loads(files["web-provenance.intoto.json"])
    described = {one["name"] for one in provenance["subject"]}
    assert described == {"web-cmdline", "web-initrd.img", "web-kernel"}
    index = json.loads((tmp_path / "web" / "index.json").read_bytes())
    sources = provenance["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {
        "uri": "oci-layout:web",
        "digest": {"sha256": index["manifests"][0]["digest"].partition(":")[2]},
    } in sources


def test_the_documents_are_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(built(monkeypatch, tmp_path / name, "--documents"))
    assert found[0] == found[1]


def test_there_are_none_unless_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(built(monkeypatch, tmp_path)) == {"web-cmdline", "web-initrd.img", "web-kernel"}
