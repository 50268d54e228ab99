from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_support import accepts
from core_infra.build._artifact import Artifact
from core_infra.build._documents.checksums import (
    checksum,
    checksum_all,
    read_checksum_file,
    write_checksum_file,
)
from core_infra.build._documents.manifest import read_manifest, write_manifest
from core_infra.build._errors import ArtifactError, ArtifactMissingError, ChecksumError
from core_infra.medium import LocalMedium, MemoryMedium

if TYPE_CHECKING:
    from pathlib import Path

SUM = "0123456789abcdef" * 4


def test_a_checksum_is_the_files_sha256() -> None:
    medium = MemoryMedium()
    medium.write_bytes("dist/app", b"hello")
    artifact = Artifact("dist/app", "linux", "amd64")
    made = checksum(medium, artifact)
    assert made.checksum == hashlib.sha256(b"hello").hexdigest()
    assert artifact.checksum == ""
    assert (made.path, made.os, made.arch) == (artifact.path, "linux", "amd64")


def test_all_checksums_come_in_order() -> None:
    medium = MemoryMedium()
    artifacts = [Artifact(f"dist/{number}") for number in range(50)]
    for one in artifacts:
        medium.write_text(one.path, one.path)
    made = checksum_all(medium, artifacts)
    assert [one.path for one in made] == [one.path for one in artifacts]
    expected = [hashlib.sha256(one.path.encode()).hexdigest() for one in artifacts]
    assert [one.checksum for one in made] == expected


def test_a_path_that_is_not_a_file_is_one_clear_error() -> None:
    medium = MemoryMedium()
    medium.ensure_dir("dist/web")
    with pytest.raises(ArtifactMissingError):
        checksum(medium, Artifact("dist/no"))
    with pytest.raises(ArtifactError):
        checksum(medium, Artifact(""))
    for tree in (False, True):
        with pytest.raises(ArtifactError, match="a directory where a file"):
            checksum(medium, Artifact("dist/web", tree=tree))


def test_sha256sum_accepts_the_file(tmp_path: Path) -> None:
    medium = LocalMedium(tmp_path)
    names = ["b.tar.gz", "a b.zip", "B", "ä.xz"]
    for name in names:
        medium.write_text(f"dist/{name}", name)
    made = checksum_all(medium, [Artifact(f"dist/{name}") for name in names])
    write_checksum_file(medium, made, "dist/CHECKSUMS.txt")
    text = medium.read_text("dist/CHECKSUMS.txt")
    assert [line[66:] for line in text.splitlines()] == sorted(names)
    assert text.endswith("\n")
    accepts("sha256sum", "--strict", "-c", "CHECKSUMS.txt", cwd=tmp_path / "dist")
    assert read_checksum_file(medium, "dist/CHECKSUMS.txt") == {
        one.name: one.checksum for one in made
    }


@pytest.mark.parametrize(
    ("artifacts", "why"),
    [
        ([Artifact("dist/a")], "it is not set"),
        ([Artifact("dist/a", checksum="short")], "it is 'short'"),
        ([Artifact("x/a", checksum=SUM), Artifact("y/a", checksum=SUM)], "another artifact"),
        ([Artifact("x/a\nb", checksum=SUM)], "does not fit"),
        ([Artifact("x/a\\b", checksum=SUM)], "does not fit"),
        ([Artifact("..", checksum=SUM)], "does not fit"),
    ],
)
def test_what_cannot_be_a_line_is_an_error_and_nothing_is_written(
    artifacts: list[Artifact], why: str
) -> None:
    medium = MemoryMedium()
    with pytest.raises(ChecksumError, match=why):
        write_checksum_file(medium, artifacts, "dist/CHECKSUMS.txt")
    assert not medium.exists("dist")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{SUM}  a\n{SUM}  ../b\n", 2),
        (f"{SUM}  /etc/passwd\n", 1),
        (f"{SUM}  ..\n", 1),
        (f"{SUM} a\n", 1),
        (f"{SUM}  a\n{SUM[:-1]}  b\n", 2),
        (f"{SUM}  a\n\n", 2),
        (f"{SUM}  a\n{SUM}  a\n", 2),
    ],
)
def test_a_malformed_line_is_reported_with_its_number(text: str, line: int) -> None:
    medium = MemoryMedium()
    medium.write_text("CHECKSUMS.txt", text)
    with pytest.raises(ChecksumError, match=f"CHECKSUMS.txt, line {line}"):
        read_checksum_file(medium, "CHECKSUMS.txt")


@given(
    st.dictionaries(st.text("abc ._-ä*", min_size=1).filter(lambda s: s.strip(".")), st.just(SUM))
)
def test_any_checksums_come_back(sums: dict[str, str]) -> None:
    medium = MemoryMedium()
    artifacts = [Artifact(name, checksum=digest) for name, digest in sums.items()]
    write_checksum_file(medium, artifacts, "CHECKSUMS.txt")
    assert read_checksum_file(medium, "CHECKSUMS.txt") == sums


def test_a_manifest_has_two_digests_of_each() -> None:
    medium = MemoryMedium()
    medium.write_text("dist/b.zip", "12345")
    medium.write_text("dist/a", "1")
    content = SUM[::-1]
    artifacts = [
        Artifact("dist/b.zip", "linux", "amd64", checksum=SUM, content=content),
        Artifact("dist/a", checksum=SUM),
    ]
    write_manifest(medium, artifacts, "dist/manifest.json", name="x", version="1.0")
    listed = read_manifest(medium, "dist/manifest.json")
    assert [one.name for one in listed] == ["a", "b.zip"]
    assert listed[1]._asdict() == {
        "name": "b.zip",
        "os": "linux",
        "arch": "amd64",
        "size": 5,
        "sha256": SUM,
        "content": content,
    }


def test_a_manifest_without_a_checksum_is_not_written() -> None:
    medium = MemoryMedium()
    medium.write_text("a", "1")
    with pytest.raises(ChecksumError, match="it has no checksum"):
        write_manifest(medium, [Artifact("a")], "manifest.json")
    assert not medium.exists("manifest.json")


def listing(**wrong: str) -> str:
    right = {"name": "x", "os": "", "arch": "", "size": 1, "sha256": SUM, "content": ""}
    return json.dumps({"format": 1, "artifacts": [right | wrong]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "artifacts": []}',
        '{"format": 1, "artifacts": [{}]}',
        '{"format": 1, "artifacts": [3]}',
        listing(name="../x"),
        listing(size="1"),
        listing(sha256="0"),
        "[" * 100_000,
        "\x00\xff",
    ],
)
def test_an_invalid_manifest_is_one_error(text: str) -> None:
    medium = MemoryMedium()
    medium.write_bytes("manifest.json", text.encode("latin-1"))
    with pytest.raises(ChecksumError, match="is not a manifest"):
        read_manifest(medium, "manifest.json")
