"""Disks in any format: told by what they hold, converted where QEMU needs it, never a way out."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm import Launcher
from core_infra.vm._cache import cache_root
from core_infra.vm._disks import as_disks, usable
from core_infra.vm._images.conversion import all_converted, prune
from core_infra.vm._images.disk_files import parts
from core_infra.vm._images.formats import ImageFormat, detect_format

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.vm._hypervisors.disposable import Disk

CACHE = cache_root()
SIZE = 8 << 20
SECRET = b"root:secret\n".ljust(1 << 16, b"\0")
VMDK = ("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized")
FORMATS = {
    "d.vdi": ("vdi", ""),
    "d.vhd": ("vpc", ""),
    "fixed.vhd": ("vpc", "subformat=fixed"),
    "d.vhdx": ("vhdx", ""),
    "d.qcow": ("qcow", ""),
    "d.qed": ("qed", ""),
    "d.parallels": ("parallels", ""),
    "d.vmdk": ("vmdk", ""),
    **{f"{kind}.vmdk": ("vmdk", f"subformat={kind}") for kind in VMDK},
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "d.raw.xz": lzma.compress,
    "d.img.gz": gzip.compress,
    "d.raw.zst": zstd.compress,
    "d.bz2": bz2.compress,
    "two.parts.gz": lambda data: (
        gzip.compress(data[: SIZE // 2]) + gzip.compress(data[SIZE // 2 :])
    ),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("CORE_INFRA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with a boot sector, with something in the middle, and at its end."""
    path = tmp_path_factory.mktemp("raw") / "d.raw"
    content = bytearray(SIZE)
    content[:6], content[510:512], content[-3:] = b"seeded", b"\x55\xaa", b"end"
    content[SIZE // 2 : SIZE // 2 + 5] = b"half."
    path.write_bytes(content)
    return path


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True)


def make(raw: Path, target: Path) -> Path:
    format_, options = FORMATS[target.name]
    qemu_img("convert", "-O", format_, *(["-o", options] if options else []), raw, target)
    return target


def use(path: Path, told: list[str] | None = None) -> Disk:
    return usable(as_disks([path])[0], (told if told is not None else []).append)


def is_same(raw: Path, disk: Disk) -> None:
    qemu_img("compare", "-f", "raw", "-F", disk.format, raw, disk.path)


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


def test_nothing_is_left_of_a_conversion_that_fails(raw: Path, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "d.raw.gz"
    path.write_bytes(gzip.compress(raw.read_bytes() + os.urandom(1 << 20))[:-500_000])
    with pytest.raises(InvalidError, match=r"d\.raw\.gz is damaged"):
        use(path)
    assert [one.name for one in (cache / "disks").iterdir() if one.suffix != ".lock"] == []


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


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"monolithicFlat.vmdk"}))
@pytest.mark.parametrize("filled", [b"\xff", b"\0", b"\x7f"])
def test_a_damaged_header_is_one_clear_error(
    raw: Path, tmp_path: Path, name: str, filled: bytes
) -> None:
    path = make(raw, tmp_path / name)
    content = path.read_bytes()
    start = 0x48 if name == "d.vdi" else 8
    path.write_bytes(content[:start] + filled * (4096 - start) + content[4096:])
    with contextlib.suppress(InvalidError, NotFoundError):  # or what is left of it works
        use(path)


def secret(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "secret"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(SECRET)
    return path


def hostile(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "images" / name
    path.parent.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize("name", ["disk.raw", "disk.img", "disk", "disk.qcow2"])
@pytest.mark.parametrize("how", ["absolute", "relative", "link"])
def test_no_qcow2_leads_to_another_file_of_this_host(tmp_path: Path, name: str, how: str) -> None:
    target, path = secret(tmp_path), hostile(tmp_path, name)
    backing = {"absolute": str(target), "relative": "../elsewhere/secret", "link": "link"}[how]
    (path.parent / "link").symlink_to(target)
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-u", "-b", backing, path, "1M")
    with pytest.raises(InvalidError, match=r"it refers to '"):
        use(path)


@pytest.mark.parametrize("backing", ['json:{"driver":"null-co"}', "nbd://127.0.0.1:1/x"])
def test_no_qcow2_leads_to_the_network(tmp_path: Path, backing: str) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-u", "-b", backing, path, "1M")
    with pytest.raises(InvalidError, match=r"which is no file"):
        use(path)


def test_a_base_whose_format_is_not_said_is_not_guessed(tmp_path: Path) -> None:
    base, path = tmp_path / "base.raw", tmp_path / "disk.qcow2"
    base.write_bytes(SECRET)
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", base, path, "1M")
    content = path.read_bytes()
    at = content.index(b"\xe2\x79\x2a\xca")  # the extension that says the base's format
    path.write_bytes(content[:at] + b"\x11\x11\x11\x11" + content[at + 4 :])
    with pytest.raises(InvalidError, match=r"(?s)does not say what format .* -F raw"):
        use(path)


@pytest.mark.parametrize("where", ["beside", "below"])
def test_an_image_may_build_upon_one_beside_it(raw: Path, tmp_path: Path, where: str) -> None:
    base = tmp_path / ("base.raw" if where == "beside" else "bases/base.raw")
    base.parent.mkdir(exist_ok=True)
    shutil.copyfile(raw, base)
    for backing in (str(base), str(base.relative_to(tmp_path))):
        path = tmp_path / "disk.qcow2"
        qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", backing, path)
        is_same(raw, use(path))
    chained = tmp_path / "chained.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", path, chained)
    assert [part.path.name for part in parts(chained, ImageFormat.QCOW2)] == [
        *("chained.qcow2", "disk.qcow2", "base.raw")
    ]
    is_same(raw, use(chained))


def test_a_qcow2_over_a_vmdk_is_converted(raw: Path, tmp_path: Path) -> None:
    make(raw, tmp_path / "d.vmdk")
    path = tmp_path / "over.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "vmdk", "-b", "d.vmdk", path)
    disk = use(path)
    assert disk.content, "else no machine with it could be saved"
    is_same(raw, disk)


def test_a_base_that_is_missing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-u", "-b", "gone.raw", path, "1M")
    with pytest.raises(NotFoundError, match=r"'gone\.raw', which is not there"):
        use(path)


def test_an_image_that_builds_upon_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-u", "-b", "disk.qcow2", path, "1M")
    with pytest.raises(InvalidError, match="builds upon itself"):
        use(path)


@pytest.mark.parametrize("encrypted", ["qcow2", "data file"])
def test_what_cannot_be_read_alone_is_refused(tmp_path: Path, encrypted: str) -> None:
    path = tmp_path / "disk.qcow2"
    if encrypted == "qcow2":
        qemu_img("create", "-f", "qcow2", path, "1M")
        with path.open("r+b") as file:
            file.seek(32)
            file.write(b"\0\0\0\2")  # by LUKS, which takes seconds to make
        said = "it is encrypted"
    else:
        qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", path, "1M")
        said = "its data are in another file"
    with pytest.raises(InvalidError, match=said):
        use(path)


def descriptor(extent: str, more: str = "") -> str:
    return (
        "# Disk DescriptorFile\nversion=1\nCID=8aabf97f\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\n{more}\n{extent}\n'
    )


@pytest.mark.parametrize(
    "extent",
    [
        'RW 128 FLAT "{secret}" 0',
        'RW 128 FLAT "../elsewhere/secret" 0',
        'RW 128 VMFS "{secret}" 0',
        'RW\n128FLAT\n"{secret}" 0',
        'RW 128 FLAT "link" 0',
        'RW 128 FLAT "below/../../elsewhere/secret" 0',
        'RW 128 FLAT "nbd://127.0.0.1:1/x" 0',
    ],
)
@pytest.mark.parametrize("name", ["disk.vmdk", "disk.raw"])
def test_no_vmdk_leads_to_another_file_of_this_host(tmp_path: Path, name: str, extent: str) -> None:
    target, path = secret(tmp_path), hostile(tmp_path, name)
    (path.parent / "link").symlink_to(target)
    (path.parent / "below").mkdir()
    path.write_text(descriptor(extent.format(secret=target)))
    with pytest.raises(InvalidError, match="it refers to '"):
        use(path)


def test_no_sparse_vmdk_leads_out_by_a_descriptor_within(tmp_path: Path) -> None:
    target, path = secret(tmp_path), hostile(tmp_path, "disk.vmdk")
    qemu_img("create", "-f", "vmdk", path, "1M")
    content = bytearray(path.read_bytes())
    (offset,) = struct.unpack_from("<Q", content, 28)
    struct.pack_into("<Q", content, 12, 0)  # no capacity: then QEMU takes the descriptor's extents
    text = descriptor(f'RW 128 FLAT "{target}" 0').encode().ljust(20 * 512, b"\0")
    content[offset * 512 : (offset + 20) * 512] = text
    path.write_bytes(content)
    with pytest.raises(InvalidError, match="it refers to '"):
        use(path)


def test_no_vmdk_builds_upon_another(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    path.write_text(descriptor('RW 1 FLAT "x" 0', 'parentFileNameHint="/etc/passwd"'))
    with pytest.raises(InvalidError, match="builds upon another image, '/etc/passwd'"):
        use(path)


def test_what_is_packed_refers_to_nothing(tmp_path: Path) -> None:
    inside, path = tmp_path / "disk.qcow2", tmp_path / "disk.qcow2.gz"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-u", "-b", "/etc/passwd", inside, "1M")
    path.write_bytes(gzip.compress(inside.read_bytes()))
    with pytest.raises(InvalidError, match=r"disk\.qcow2\.gz as a disk: it is not whole"):
        use(path)


@pytest.mark.parametrize(
    ("make_it", "said"),
    [
        (os.mkfifo, "it is a fifo"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
        (
            lambda path: path.write_bytes(gzip.compress(b"hello")),
            "contains something unknown",
        ),
        (lambda path: path.write_bytes(b"\0" * 257 + b"ustar"), "a tar archive"),
        (lambda path: path.symlink_to("/dev/null"), "it is a character device"),
    ],
)
def test_what_is_no_disk_is_refused(
    tmp_path: Path, make_it: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "disk"
    make_it(path)
    with pytest.raises(CoreInfraError, match=said):
        use(path)
