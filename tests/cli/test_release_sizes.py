"""The sizes of a release against the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra._cli.release_sizes import Sizes
from core_infra.build import Artifact, checksum_all, write_manifest
from core_infra.medium import LocalMedium

if TYPE_CHECKING:
    from pathlib import Path


def release(directory: Path, version: str, **sizes: int) -> Sizes:
    directory.mkdir()
    medium, artifacts = LocalMedium(), []
    for name, size in sizes.items():
        path = directory / f"{name}_{version.removeprefix('v')}.zip"
        path.write_bytes(b"x" * size)
        artifacts.append(Artifact(str(path)))
    made = checksum_all(medium, artifacts)
    write_manifest(medium, made, str(directory / "manifest.json"), version=version)
    return Sizes(directory)


def test_files_of_another_version_are_compared(tmp_path: Path) -> None:
    before = release(tmp_path / "a", "v1.0.0", app=1000, gone=1)
    after = release(tmp_path / "b", "v1.1.0", app=1250, tool=999)
    assert list(after.lines(before)) == [
        "app_1.1.0.zip    1.25 kB  +25.0 %",
        "tool_1.1.0.zip     999 B",
    ]
    assert next(iter(before.lines(Sizes(tmp_path / "none")))) == "app_1.0.0.zip       1 kB"


def test_what_is_not_our_manifest_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]")
    assert list(Sizes(tmp_path).lines(Sizes(tmp_path))) == []
