"""The compressed streams, as other programs read them."""

from __future__ import annotations

import gzip
import lzma
import struct
import tarfile
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from archive_samples import APP, DATA, some_data
from build_support import accepts
from core_infra.build._archives import streams
from core_infra.build._archives.archive import (
    archive,
)
from core_infra.build._archives.streams import xz
from core_infra.medium import MemoryMedium

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@settings(max_examples=25)
@given(st.binary(max_size=2000), st.integers(0, 3), st.integers(1, 4))
def test_any_stream_comes_back_from_xz(data: bytes, preset: int, threads: int) -> None:
    packed = b"".join(xz([data], preset, threads))
    assert lzma.decompress(packed) == data


def test_an_xz_stream_has_its_blocks_in_one_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(streams, "_XZ_BLOCK", 1000)
    data = some_data(300_500)
    (tmp_path / "a.xz").write_bytes(b"".join(xz([data], 0, 3)))
    listed = accepts("xz", "--robot", "-l", tmp_path / "a.xz").splitlines()
    assert listed[1].split("\t")[1:3] == ["1", "301"]  # streams, blocks
    assert lzma.decompress((tmp_path / "a.xz").read_bytes()) == data


def test_gzip_tells_the_size_and_checksum_of_all() -> None:
    medium = MemoryMedium()
    medium.write_bytes(APP.path, DATA)
    packed = medium.read_bytes(archive(medium, APP).path)
    plain = gzip.decompress(packed)
    assert struct.unpack("<I", packed[-4:])[0] == len(plain)
    assert len(plain) % tarfile.RECORDSIZE == 0
