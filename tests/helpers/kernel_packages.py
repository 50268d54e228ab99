"""Makes small kernels, kernel modules, packages and a repository of them."""

import bz2
import gzip
import hashlib
import lzma
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cramjam

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PVH_NOTE = struct.pack("<III", 4, 8, 18) + b"Xen\0" + struct.pack("<Q", 0x1000000)
APPLETS = ["[", "[[", "busybox", "cat", "init", "modprobe", "mount", "sh"]


def lz4_legacy(data: bytes, block: int = 8 << 20) -> bytes:
    blocks = [
        bytes(cramjam.lz4.compress_block(data[start : start + block], store_size=False))
        for start in range(0, len(data), block)
    ]
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(b)) + b for b in blocks)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
    "bzip2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lz4": lz4_legacy,
}


def elf_kernel(body: bytes = b"", note: bytes = PVH_NOTE) -> bytes:
    """An ELF file with one program header, a PT_NOTE that holds ``note``."""
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", 4, 4, 64 + 56, 0, 0, len(note), len(note), 4)
    return head + program + note + body


def bzimage(payload: bytes, unpacked_size: int, *, sized_by_itself: bool = False) -> bytes:
    """A bzImage around a packed kernel, with the unpacked size at its end as a real one has."""
    if not sized_by_itself:
        payload += struct.pack("<I", unpacked_size)
    image = bytearray(2 * 512 + 64)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x20F)
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    return bytes(image) + payload


def module(
    depends: str = "", aliases: tuple[str, ...] = (), extra: Mapping[str, str] | None = None
) -> bytes:
    """A relocatable ELF file with a section .modinfo."""
    facts = [("license", "GPL"), *(("alias", alias) for alias in aliases), ("depends", depends)]
    facts += (extra or {}).items()
    info = b"".join(f"{key}={value}".encode() + b"\0" for key, value in facts)
    names = b"\0.modinfo\0.shstrtab\0"
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    table = 64 + len(info) + len(names)
    head += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    sections = [
        (0, 0, 0, 0, 0),
        (1, 1, 0, 64, len(info)),
        (10, 3, 0, 64 + len(info), len(names)),
    ]
    rows = b"".join(struct.pack("<IIQQQQ24x", n, t, 0, a, o, s) for n, t, a, o, s in sections)
    return head + info + names + rows


def busybox() -> bytes:
    return b"\x7fELF text " + "\0".join(APPLETS).encode() + b"\0\0more"


class Member(NamedTuple):
    name: str
    mode: int
    owner: tuple[int, int]
    device: tuple[int, int]
    inode: int
    mtime: int
    data: bytes


def read_cpio(archive: bytes) -> list[Member]:
    members: list[Member] = []
    position = 0
    while True:
        head = archive[position : position + 110]
        assert head[:6] == b"070701"
        ino, mode, uid, gid, _, mtime, size, _, _, major, minor, length, _ = (
            int(head[start : start + 8], 16) for start in range(6, 110, 8)
        )
        name = archive[position + 110 : position + 109 + length].decode()
        start = -(-(position + 110 + length) // 4) * 4
        data = archive[start : start + size]
        position = -(-(start + size) // 4) * 4
        if name == "TRAILER!!!":
            assert position == len(archive)
            return members
        members.append(Member(name, mode, (uid, gid), (major, minor), ino, mtime, data))


class Repository:
    """A directory of packages as apt wants it, with one apt configuration that knows only it."""

    def __init__(self, root: Path, *, trusted: bool = True) -> None:
        self.root = root
        self.config = root / "apt.conf"
        self._index = ""
        options = "[trusted=yes] " if trusted else ""
        (root / "sources.list").write_text(f"deb {options}copy:{root}/pool ./\n")
        (root / "pool").mkdir()
        for name in ("state/lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True)
        settings = {
            "Dir::Etc::SourceList": root / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Parts": "/dev/null",
            "Dir::Etc::Main": "/dev/null",
            "Dir::State": root / "state",
            "Dir::State::Status": "/dev/null",
            "Dir::Cache": root / "cache",
        }
        self.config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))

    def add(
        self, name: str, files: Mapping[str, bytes], *, depends: str = "", version: str = "1:1.0"
    ) -> Path:
        tree = self.root / "trees" / name / version
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
        control += f"Maintainer: nobody <nobody@localhost>\nDescription: {name}\n"
        control += f"Depends: {depends}\n" if depends else ""
        (tree / "DEBIAN" / "control").write_text(control)
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
            if data.startswith(b"#!"):
                (tree / path).chmod(0o755)
        deb = self.root / "pool" / f"{name}-{version[0]}.deb"
        command = ["dpkg-deb", "--build", "-Znone", "--root-owner-group", str(tree), str(deb)]
        subprocess.run(command, check=True, capture_output=True)
        data = deb.read_bytes()
        self._index += f"{control}Filename: {deb.name}\nSize: {len(data)}\n"
        self._index += f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n"
        (self.root / "pool" / "Packages").write_text(self._index)
        return deb

    def add_guest(self) -> None:
        """What a default image is made of, as small as it can be."""
        modules = "lib/modules/9.9.9-cloud-amd64"
        drivers = ["virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "virtio-rng"]
        files = {f"{modules}/kernel/{name}.ko": module("virtio") for name in drivers}
        kernel = elf_kernel(b"x" * 5000)
        files |= {
            f"{modules}/kernel/virtio.ko.xz": lzma.compress(module()),
            "boot/vmlinuz-9.9.9-cloud-amd64": bzimage(lz4_legacy(kernel), len(kernel)),
        }
        image = "linux-image-9.9.9-cloud-amd64"
        self.add("linux-image-cloud-amd64", {}, depends=f"kmod, {image} (= 1:1.0)")
        self.add(image, files, depends="kmod, linux-base (>= 4.3~)")
        self.add("busybox-static", {"bin/busybox": busybox()})
