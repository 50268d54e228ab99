from __future__ import annotations

import contextlib
import io
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_infra.build._archives.archive import Format, archive_with_format
from core_infra.build._archives.reader import is_archive, member_chunks, read_archive
from core_infra.build._artifact import Artifact
from core_infra.build._errors import ArchiveError
from core_infra.medium import MemoryMedium


def packed(form: Format) -> bytes:
    medium = MemoryMedium()
    medium.write_bytes("t/a", b"hello" * 100)
    medium.write_bytes("t/b/c", b"")
    made = archive_with_format(medium, Artifact("t", tree=True), form)
    return medium.read_bytes(made.path)


WHOLE = {form: packed(form) for form in Format}


def read(data: bytes, name: str = "x") -> list[str]:
    medium = MemoryMedium()
    medium.write_bytes(name, data)
    return [one.name for one in read_archive(medium, name)]


@pytest.mark.parametrize("form", Format)
def test_the_packed_members_are_read(form: Format) -> None:
    medium = MemoryMedium()
    medium.write_bytes("x", WHOLE[form])
    members = read_archive(medium, "x")
    assert [one.name for one in members] == ["t", "t/a", "t/b", "t/b/c"]
    assert [one.size for one in members] == [0, 500, 0, 0]
    assert [f"{one.mode:o}" for one in members] == ["40755", "100644", "40755", "100644"]
    assert {one.modified for one in members} == {"1980-01-01 00:00:00"}
    assert b"".join(member_chunks(medium, "x", "t/a")) == b"hello" * 100


@pytest.mark.parametrize("form", Format)
def test_what_is_cut_off_is_an_error(form: Format) -> None:
    for length in (0, 5, len(WHOLE[form]) // 2, len(WHOLE[form]) - 1):
        with pytest.raises(ArchiveError, match="cannot read the archive 'x'"):
            read(WHOLE[form][:length])


@pytest.mark.parametrize("size", [1, (5 << 20) - 5120])
def test_a_wrong_checksum_at_the_end_of_gzip_is_an_error(size: int) -> None:
    # The second size makes a tar of 5 MiB: nothing is left for the last read but the checksum.
    medium = MemoryMedium()
    medium.write_bytes("x", bytes(size))
    data = bytearray(medium.read_bytes(archive_with_format(medium, Artifact("x"), "gz").path))
    data[-6] ^= 1
    with pytest.raises(ArchiveError, match="CRC"):
        read(bytes(data))


@given(st.sampled_from(Format), st.data())
def test_a_damaged_archive_is_an_archive_or_one_error(form: Format, data: st.DataObject) -> None:
    damaged = bytearray(WHOLE[form])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ArchiveError):
        read(bytes(damaged))


@given(st.binary(max_size=600))
def test_a_damaged_tar_is_an_archive_or_one_error(noise: bytes) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("ü" * 90))
    data = bytearray(file.getvalue())
    data[: len(noise)] = noise
    with contextlib.suppress(ArchiveError):
        read(bytes(data))


def test_other_members_of_tar_have_their_type() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.SYMTYPE):
            info = tarfile.TarInfo(f"x{kind.decode()}")
            info.type, info.linkname = kind, "there" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info)
    medium = MemoryMedium()
    medium.write_bytes("x.tar", file.getvalue())
    assert [f"{one.mode:o}"[:-3] for one in read_archive(medium, "x.tar")] == ["10", "20", "120"]


def test_an_encrypted_zip_is_one_error() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", "y")
    data = bytearray(file.getvalue())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(ArchiveError, match="encrypted"):
        read(bytes(data))


def test_archives_are_recognized_by_their_names() -> None:
    assert is_archive("a.tar.gz")
    assert is_archive("a.zip")
    assert not is_archive("CHECKSUMS.txt")
