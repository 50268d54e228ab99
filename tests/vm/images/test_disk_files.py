"""Disk images lead to no other file of this host, and damaged ones are refused."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.vm._images.disk_files import disk_files
from core_infra.vm._images.formats import ImageFormat
from disk_images import FORMATS, is_same, make, qemu_img, use

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("own_cache")

SECRET = b"root:secret\n".ljust(1 << 16, b"\0")


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
    with pytest.raises(InvalidError, match=r"which is not a file"):
        use(path)


def test_a_base_whose_format_is_not_said_is_not_guessed(tmp_path: Path) -> None:
    base, path = tmp_path / "base.raw", tmp_path / "disk.qcow2"
    base.write_bytes(SECRET)
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", base, path, "1M")
    content = path.read_bytes()
    at = content.index(b"\xe2\x79\x2a\xca")  # the extension that says the base's format
    path.write_bytes(content[:at] + b"\x11\x11\x11\x11" + content[at + 4 :])
    with pytest.raises(InvalidError, match=r"(?s)does not say the format .* -F raw"):
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
    assert [part.path.name for part in disk_files(chained, ImageFormat.QCOW2)] == [
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
    with pytest.raises(NotFoundError, match=r"'gone\.raw', which does not exist"):
        use(path)


def test_an_image_that_builds_on_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-u", "-b", "disk.qcow2", path, "1M")
    with pytest.raises(InvalidError, match="builds on itself"):
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


def test_no_vmdk_builds_on_another(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    path.write_text(descriptor('RW 1 FLAT "x" 0', 'parentFileNameHint="/etc/passwd"'))
    with pytest.raises(InvalidError, match="builds on another image, '/etc/passwd'"):
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
