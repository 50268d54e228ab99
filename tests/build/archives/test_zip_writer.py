"""The limits of zip."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from archive_samples import APP, DATA
from build_support import accepts
from core_infra.build._archives import zip_writer
from core_infra.build._archives.archive import (
    Format,
    archive_with_format,
)
from core_infra.build._artifact import Artifact
from core_infra.medium import LocalMedium, MemoryMedium

if TYPE_CHECKING:
    from pathlib import Path


def test_zip_members_over_4_gib_have_the_wide_fields(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As if 1 MB were the limit: all wide fields are used, and readers take them anyway.
    monkeypatch.setattr(zip_writer, "_MAYBE_LARGE", 1_000_000)
    medium = LocalMedium(tmp_path)
    medium.write_bytes("t/big", DATA)
    medium.write_bytes("t/small", b"x")
    made = archive_with_format(medium, Artifact("t", tree=True), Format.ZIP)
    accepts("unzip", "-t", tmp_path / made.path)
    accepts("7z", "t", tmp_path / made.path)
    with zipfile.ZipFile(tmp_path / made.path) as inside:
        assert inside.read("t/big") == DATA
        assert b"\x01\x00\x10\x00" in inside.getinfo("t/big").extra


def test_more_zip_members_than_65535(tmp_path: Path) -> None:
    medium = MemoryMedium()
    for number in range(65_600):
        medium.write_bytes(f"t/{number}", b"")
    made = archive_with_format(medium, Artifact("t", tree=True), Format.ZIP)
    (tmp_path / "a.zip").write_bytes(medium.read_bytes(made.path))
    with zipfile.ZipFile(tmp_path / "a.zip") as inside:
        assert len(inside.namelist()) == 65_601
    accepts("unzip", "-tqq", tmp_path / "a.zip")
    accepts("7z", "t", tmp_path / "a.zip")


@pytest.mark.parametrize("epoch", [0, 315532799, 4354819199, 0o77777777777])
def test_times_that_zip_cannot_tell_are_its_first_or_last(epoch: int) -> None:
    medium = MemoryMedium()
    medium.write_text(APP.path, "x")
    made = archive_with_format(medium, APP, Format.ZIP, epoch=epoch)
    with medium.open(made.path) as file, zipfile.ZipFile(file) as inside:
        year = inside.infolist()[0].date_time[0]
    assert year == (1980 if epoch < 1e9 else 2107)
