"""Archives of unknown origin: whatever their members are called, nothing outside is touched."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_infra.errors import CoreInfraError, InvalidError, WrongStateError
from core_infra.medium import LocalMedium, MemoryMedium, pack, unpack

PARTS = ["a", "A", "b", "..", ".", "", "C:", "c\\d", "..\\x", "\u00e9", "e\u0301", "\0", "n" * 300]
NAMES = st.lists(st.sampled_from(PARTS), max_size=4).map("/".join)
KINDS = [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]
KINDS += [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.CONTTYPE]


def archive_of(members: list[tuple[str, bytes, str]]) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = 3 if member.isreg() else 0
            # Also as a PAX header, which keeps what the old header cannot hold.
            member.pax_headers = {"path": name}
            tar.addfile(member, io.BytesIO(b"new"))
    file.seek(0)
    return file


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from(KINDS), NAMES), max_size=5))
def test_any_members_are_unpacked_inside_or_refused(members: list[tuple[str, bytes, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        (top / "victim").write_text("unharmed")
        memory = MemoryMedium()
        memory.write_text("victim", "unharmed")
        for medium in (LocalMedium(top), memory):
            medium.ensure_dir("target")
            with contextlib.suppress(CoreInfraError):
                unpack(archive_of(members), medium, "target")
            assert medium.list(".") == ["target", "victim"]
            assert medium.is_dir("target")
            assert medium.read_text("victim") == "unharmed"
        assert not any(path.is_symlink() for path in top.rglob("*"))


@pytest.mark.parametrize("name", [".", "./", "a/..", "a/.", "a/../."])
def test_a_file_does_not_take_the_place_of_the_directory(name: str) -> None:
    medium = MemoryMedium()
    for target in ("there", "missing"):
        medium.ensure_dir("there/a")
        with pytest.raises(InvalidError, match="name is that of a directory"):
            unpack(archive_of([(name, tarfile.REGTYPE, "")]), medium, target)
    assert medium.list(".") == ["there"]
    assert medium.list("there") == ["a"]


@pytest.mark.parametrize("kind", ["no archive", "cut off", "damaged compression"])
def test_what_is_not_a_whole_archive_is_one_clear_error(kind: str) -> None:
    data = archive_of([("a", tarfile.REGTYPE, ""), ("b", tarfile.REGTYPE, "")]).getvalue()
    if kind == "cut off":
        data = data[:513]
    elif kind == "no archive":
        data = b"something else" * 100
    else:
        data = b"\x1f\x8b\x08\x00" + data
    with pytest.raises(InvalidError, match="cannot unpack the archive"):
        unpack(io.BytesIO(data), MemoryMedium(), "x")


def test_a_file_that_shrinks_while_it_is_packed_is_an_error() -> None:
    class Shrinking(MemoryMedium):
        def open(self, path: object) -> io.BytesIO:
            del path
            return io.BytesIO(b"1")

    medium = Shrinking()
    medium.write_text("t/f", "long")
    with pytest.raises(WrongStateError, match="smaller"):
        pack(medium, "t", io.BytesIO())
