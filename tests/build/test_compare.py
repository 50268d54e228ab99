from __future__ import annotations

import gzip
import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from core_infra.build._archives.archive import archive, archive_with_format
from core_infra.build._artifact import Artifact
from core_infra.build._compare import Difference, Side, first_difference
from core_infra.medium import LocalMedium, MemoryMedium

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.medium._medium import Medium


def compare(one: Medium, other: Medium, path: str = "dist") -> Difference | None:
    return first_difference(Side(one, path), Side(other, path))


def build(**files: str) -> MemoryMedium:
    medium = MemoryMedium()
    for name, text in files.items():
        medium.write_text(f"dist/web/{name}", text)
    medium.delete_all("dist/x")
    return medium


def packed(medium: MemoryMedium, form: str, *, epoch: int = 10**9) -> MemoryMedium:
    archive_with_format(medium, Artifact("dist/web", tree=True), form, epoch=epoch)
    medium.delete_all("dist/web")
    return medium


def test_the_same_is_the_same() -> None:
    assert compare(build(a="1"), build(a="1")) is None
    assert compare(packed(build(a="1"), "gz"), packed(build(a="1"), "gz")) is None


@pytest.mark.parametrize("form", ["gz", "xz", "zip"])
def test_the_first_member_and_field_are_named(form: str) -> None:
    ending = ".zip" if form == "zip" else f".tar.{form}"
    one = packed(build(a="1", b="hello", c="x"), form)
    found = compare(one, packed(build(a="1", b="help!", c="y"), form))
    file = f"dist/web{ending}"
    assert found is not None
    assert str(found) == f"{file}: web/b: content: at byte 3: 6c 6f / 70 21"
    found = compare(one, packed(build(a="1", b="hello", c="x"), form, epoch=10**9 + 60))
    assert str(found) == f"{file}: web: modified: 2001-09-09 01:46:40 / 2001-09-09 01:47:40"
    found = compare(one, packed(build(a="1", c="x"), form))
    assert str(found) == f"{file}: web/b: existence: there / missing"
    found = compare(packed(build(a="1", c="x"), form), one)
    assert str(found) == f"{file}: web/b: existence: missing / there"
    longer = packed(build(a="1", b="hello, world", c="x"), form)
    assert str(compare(one, longer)).endswith("at byte 5: the end / 2c 20 77 6f 72 6c 64")


def test_modes_and_owners_and_order_and_links() -> None:
    def tar(*members: tarfile.TarInfo) -> MemoryMedium:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as out:
            for member in members:
                out.addfile(member)
        medium = MemoryMedium()
        medium.write_bytes("dist/a.tar", file.getvalue())
        return medium

    def member(name: str, **facts: object) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        for key, value in facts.items():
            setattr(info, key, value)
        return info

    plain = tar(member("a"), member("b"))
    said = {
        "a.tar: a: mode: 100644 / 100755": tar(member("a", mode=0o755), member("b")),
        "a.tar: b: owner: 0:0 / 0:0 me:us": tar(member("a"), member("b", uname="me", gname="us")),
        "a.tar: member 1: order: a / b": tar(member("b"), member("a")),
    }
    for words, other in said.items():
        assert str(compare(plain, other)) == f"dist/{words}"
    links = [tar(member("a", type=tarfile.SYMTYPE, linkname=to)) for to in ("x", "y")]
    assert str(compare(links[0], links[1])) == "dist/a.tar: a: link: x / y"


def test_alike_but_packed_otherwise() -> None:
    one, other = packed(build(a="1" * 999), "gz"), build(a="1" * 999)
    archive(other, Artifact("dist/web", tree=True), profile="fast", epoch=10**9)
    other.delete_all("dist/web")
    found = compare(one, other)
    assert found is not None
    assert (found.member, found.field) == ("", "packing")
    stamped = one.fork()
    plain = gzip.decompress(one.read_bytes("dist/web.tar.gz"))
    stamped.write_bytes("dist/web.tar.gz", gzip.compress(plain, mtime=77))
    words = "dist/web.tar.gz: packing: gzip header's time 0 / gzip header's time 77"
    assert str(compare(one, stamped)) == words


def test_directories_and_plain_files() -> None:
    one = build(a="1", b="2")
    other = build(a="1", c="2")
    assert str(compare(one, other)) == "dist/web/b: existence: there / missing"
    other = build(a="1", b="3")
    assert str(compare(one, other)) == "dist/web/b: content: at byte 0: 32 / 33"
    other = build(a="1", b="2")
    other.write_text("dist/web/a", "1", mode=0o755)
    assert str(compare(one, other)) == "dist/web/a: mode: not executable / executable"
    other = build(b="2")
    other.ensure_dir("dist/web/a")
    assert str(compare(one, other)) == "dist/web/a: mode: file / directory"


def test_a_broken_archive_is_compared_by_its_bytes() -> None:
    one, other = build(), build()
    one.write_text("dist/a.zip", "PK, no")
    other.write_text("dist/a.zip", "PK? no")
    assert str(compare(one, other)) == "dist/a.zip: content: at byte 2: 2c 20 6e 6f / 3f 20 6e 6f"


def test_what_differs_only_late_is_found(tmp_path: Path) -> None:
    sides = []
    for last in (b"x", b"y"):
        medium = LocalMedium(tmp_path / last.decode())
        medium.write_bytes("dist/web/big", bytes(3_000_000) + last)
        archive(medium, Artifact("dist/web", tree=True), epoch=0)
        medium.delete_all("dist/web")
        sides.append(medium)
    assert os.listdir(tmp_path / "x/dist") == ["web.tar.gz"]  # noqa: PTH208 - hidden ones too
    words = "dist/web.tar.gz: web/big: content: at byte 3000000: 78 / 79"
    assert str(compare(sides[0], sides[1])) == words
