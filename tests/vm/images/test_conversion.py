"""Disks in any format: detected by their content, converted where QEMU needs it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.vm import Launcher
from core_infra.vm._cache import cache_root
from core_infra.vm._images.conversion import all_converted, prune
from core_infra.vm._images.formats import ImageFormat, detect_format
from disk_images import FORMATS, SIZE, is_same, make, qemu_img, use

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("own_cache")

CACHE = cache_root()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "d.raw.xz": lzma.compress,
    "d.img.gz": gzip.compress,
    "d.raw.zst": zstd.compress,
    "d.bz2": bz2.compress,
    "two.parts.gz": lambda data: (
        gzip.compress(data[: SIZE // 2]) + gzip.compress(data[SIZE // 2 :])
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_converted_once(raw: Path, tmp_path: Path, name: str) -> None:
    path, told = make(raw, tmp_path / name), list[str]()
    first = use(path, told)
    assert first.format == "qcow2"
    assert len(told) == 1, "it says so before it takes long"
    is_same(raw, first)
    written = first.path.stat()
    again = use(path, told)
    assert (again, again.path.stat().st_mtime_ns) == (first, written.st_mtime_ns)
    assert len(told) == 1


@pytest.mark.parametrize("name", PACKERS)
def test_what_is_packed_is_unpacked_once(raw: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PACKERS[name](raw.read_bytes()))
    is_same(raw, use(path))


def test_a_packed_qcow2_stays_one(raw: Path, tmp_path: Path) -> None:
    inside, path = tmp_path / "inside", tmp_path / "d.qcow2.xz"
    qemu_img("convert", "-O", "qcow2", raw, inside)
    path.write_bytes(lzma.compress(inside.read_bytes()))
    disk = use(path)
    is_same(raw, disk)
    assert disk.path.read_bytes() == inside.read_bytes()


def test_a_machine_has_them_all(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(CACHE))  # which has an image
    names = ["d.vdi", "fixed.vhd", "d.vhdx", "twoGbMaxExtentFlat.vmdk"]
    disks = [make(raw, tmp_path / name) for name in names]
    packed = tmp_path / "d.raw.xz"
    packed.write_bytes(lzma.compress(raw.read_bytes()))
    before = [path.read_bytes() for path in disks]
    with Launcher(accelerator="tcg", memory=128) as launcher:
        machine, other = (launcher.clone(disks=[*disks, packed]) for _ in range(2))
        heads = "for d in a b c d e; do head -c 6 /dev/vd$d; done"
        write = "printf mine__ | tee /dev/vda >/dev/vde; sync"
        assert machine.exec(heads, check=True).stdout == "seeded" * 5
        machine.snapshot("as it was")
        machine.exec(write, check=True)
        assert machine.exec(heads).stdout == "mine__" + "seeded" * 3 + "mine__"
        assert other.exec(heads).stdout == "seeded" * 5
        for back in ("as it was", None):
            machine.revert(back)
            machine.exec("echo 3 >/proc/sys/vm/drop_caches", check=True)
            assert machine.exec(heads).stdout == "seeded" * 5
        assert launcher.leaks() == []
    assert [path.read_bytes() for path in disks] == before


@pytest.mark.parametrize(
    ("offset", "magic"),
    [
        (0x438, b"\x53\xef"),  # ext4
        (0, b"XFSB"),
        (0x10040, b"_BHRfS_M"),
        (0, b"hsqs"),
        (0x400, b"\xe2\xe1\xf5\xe0"),
        (510, b"\x55\xaa"),  # vfat
        (512, b"EFI PART"),
        (0, b"LUKS\xba\xbe"),
        (0, b""),  # nothing at all
    ],
)
@pytest.mark.parametrize("name", ["root.ext4", "root", "disk.img", "data.bin"])
def test_a_file_system_on_its_own_is_a_raw_disk(
    tmp_path: Path, name: str, offset: int, magic: bytes
) -> None:
    path = tmp_path / name
    content = bytearray(1 << 17)
    content[offset : offset + len(magic)] = magic
    path.write_bytes(content)
    assert use(path).format == "raw"


@pytest.mark.parametrize("program", ["mke2fs -q -t ext4", "mkfs.btrfs -q", "mkfs.xfs -q"])
def test_what_makes_file_systems_makes_disks(tmp_path: Path, program: str) -> None:
    name, *arguments = program.split()
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    path = tmp_path / "root.fs"
    path.touch()
    os.truncate(path, 400 << 20)
    subprocess.run([name, *arguments, path], check=True, capture_output=True)
    assert detect_format(path) is ImageFormat.RAW


def test_content_counts_and_not_the_name(raw: Path, tmp_path: Path) -> None:
    for name in ("a.qcow2", "b.vmdk", "c.iso", "d.txt"):
        shutil.copyfile(raw, tmp_path / name)
        assert use(tmp_path / name).format == "raw"
    make(raw, tmp_path / "d.vdi").rename(tmp_path / "it.qcow2")
    is_same(raw, use(tmp_path / "it.qcow2"))


def test_another_content_is_converted_anew(raw: Path, tmp_path: Path) -> None:
    path = make(raw, tmp_path / "d.vdi")
    status = path.stat()
    first = use(path)
    with path.open("r+b") as file:
        at = path.read_bytes().index(b"seeded")
        file.seek(at)
        file.write(b"SEEDED")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as some copying programs do
    second = use(path)
    assert second.path != first.path
    content = tmp_path / "content"
    qemu_img("convert", "-O", "raw", second.path, content)
    assert content.read_bytes().startswith(b"SEEDED")


def test_converted_disks_are_listed_and_removed(raw: Path, tmp_path: Path) -> None:
    first = use(make(raw, tmp_path / "d.vdi"))
    second = use(make(raw, tmp_path / "d.qed"))
    assert {one.path for one in all_converted()} == {first.path, second.path}
    assert any(one.what == f"{tmp_path / 'd.vdi'} (vdi)" for one in all_converted())
    assert prune(0) == [], "another process may be about to use them"
    assert len(prune(0, keep=second.path, unused=0)) == 1
    assert [one.path for one in all_converted()] == [second.path]
    is_same(raw, use(tmp_path / "d.vdi"))  # made again


def test_nothing_is_left_of_a_conversion_that_fails(
    raw: Path, tmp_path: Path, own_cache: Path
) -> None:
    path = tmp_path / "d.raw.gz"
    path.write_bytes(gzip.compress(raw.read_bytes() + os.urandom(1 << 20))[:-500_000])
    with pytest.raises(InvalidError, match=r"d\.raw\.gz is damaged"):
        use(path)
    assert [one.name for one in (own_cache / "disks").iterdir() if one.suffix != ".lock"] == []


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"d.parallels"}))
def test_a_disk_that_was_cut_is_refused(tmp_path: Path, name: str) -> None:
    whole = tmp_path / "whole.raw"
    whole.write_bytes(os.urandom(SIZE))
    path = make(whole, tmp_path / name)
    *_, cut = sorted(tmp_path.glob(f"{path.stem}*"), key=lambda file: file.stat().st_size)
    os.truncate(cut, SIZE // 2)
    with pytest.raises(CoreInfraError, match=r"cut|damaged|Corrupt|cannot use") as caught:
        use(path)
    assert str(path) in str(caught.value)
