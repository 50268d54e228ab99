"""Puts together the files of the default guest's root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm.images.initrd import Entry, character_device, directory, file, symlink
from core_infra.vm.images.modules import ModuleTree, index

if TYPE_CHECKING:
    from pathlib import Path

_NEEDED = ("virtio_pci", "virtio_console")  # the agent's line goes over them
_LOADED_AT_BOOT = (*_NEEDED, "virtio_net", "virtio_blk", "virtio_rng")
_ON_DEMAND = [
    "virtio_mmio",
    "virtio_scsi",
    "virtiofs",
    "9p",
    "9pnet_virtio",
    "sd_mod",
    "sr_mod",
    "loop",
    "ext4",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "nls_utf8",
    "overlay",
    "fuse",
    "squashfs",
    "af_packet",
    "tun",
    "veth",
    "bridge",
    "dummy",
]

# All programs are in one directory, whatever name of it they are called by.
_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "usr/sbin": "bin",
    "usr/local/sbin": "bin",
    "init": "usr/bin/init",
    "etc/mtab": "/proc/self/mounts",
    "var/run": "/run",
}
_DIRECTORIES = [
    "dev",
    "etc/init.d",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "usr/bin",
    "usr/lib",
    "usr/local/bin",
]
_TESTER = (1000, 1000)


def guest_root(
    rootfs: Path, busybox: bytes, agent: bytes, modules: ModuleTree, *, console: str
) -> list[Entry]:
    """Everything that the default guest starts with.

    Args:
        rootfs: the directory with its configuration.
        busybox: the static program.
        agent: core-infra's agent, a static program.
        modules: the kernel's.
        console: the serial line where a shell waits.

    Raises:
        NotFoundError: the kernel lacks a module that is needed.
        InvalidError: a module, or busybox, is unlike any that is known here.
    """
    return [
        *(directory(path) for path in _DIRECTORIES),
        *(directory(path, 0o1777) for path in ("tmp", "var/tmp")),
        directory("home/tester", 0o755, owner=_TESTER),
        # The kernel opens it for the first process, before anything is mounted.
        character_device("dev/console", 5, 1),
        character_device("dev/null", 1, 3, 0o666),
        *(symlink(path, target) for path, target in _LINKS.items()),
        file("usr/bin/busybox", busybox, 0o755),
        *(symlink(f"usr/bin/{name}", "busybox") for name in applets(busybox)),
        file("usr/bin/core-infra-agent", agent, 0o755),
        *_configuration(rootfs, console),
        *_modules(modules),
    ]


def applets(busybox: bytes) -> list[str]:
    """The names of the programs inside busybox, for whatever machine it is.

    They stand in it in one table, sorted, each ended by a zero byte and all by another.

    Raises:
        InvalidError: there is no such table.
    """
    start = busybox.find(b"[\0[[\0")  # its first two names
    end = busybox.find(b"\0\0", start)
    names = busybox[start:end].decode("ascii", "replace").split("\0")
    if start < 0 or not {"busybox", "init", "modprobe", "mount", "sh"} <= set(names):
        raise InvalidError("The file is no busybox that a guest can start with")
    return [name for name in names if name != "busybox"]


def _configuration(rootfs: Path, console: str) -> list[Entry]:
    entries = []
    for path in sorted(rootfs.rglob("*")):
        if path.is_file():
            data = path.read_bytes().replace(b"@CONSOLE@", console.encode())
            # A wheel does not keep permissions: what begins like a script is one.
            permissions = 0o755 if data.startswith(b"#!") else 0o644
            entries.append(file(str(path.relative_to(rootfs)), data, permissions))
    return entries


def _modules(tree: ModuleTree) -> list[Entry]:
    modules = tree.select(_NEEDED, (*_LOADED_AT_BOOT, *_ON_DEMAND))
    # Some kernels have drivers built in: modprobe must not be asked for what is no module.
    boot = [module.name for module in modules if module.name in _LOADED_AT_BOOT]
    root = f"usr/lib/modules/{tree.release}"
    return [
        symlink("lib", "usr/lib"),
        *(file(f"{root}/{module.path}", module.data) for module in modules),
        *(file(f"{root}/{name}", data) for name, data in index(modules).items()),
        file("usr/lib/modules/boot", "".join(f"{name}\n" for name in boot).encode()),
    ]
