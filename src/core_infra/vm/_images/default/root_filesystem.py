"""The files of the default guest's root file system."""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError
from core_infra.vm._images.default.modules import ModuleTree, index, packed
from core_infra.vm._images.initrd import Entry, character_device, directory, file, symlink

if TYPE_CHECKING:
    from pathlib import Path


_NEEDED = ("virtio_pci", "virtio_console")  # the connection to the agent uses them
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

# What only some tests ask for is packed: it takes less memory, and longer to load.
_PACKED = [
    *("dm_mod", "dm_crypt", "dm_snapshot", "dm_thin_pool", "dm_verity"),
    *("btrfs", "xfs", "erofs", "nbd", "zram", "autofs4", "binfmt_misc"),
    *("nf_tables", "nft_chain_nat", "nft_compat", "nft_ct", "nft_fib_inet", "nft_hash"),
    *("nft_limit", "nft_log", "nft_masq", "nft_nat", "nft_objref", "nft_quota", "nft_redir"),
    "nft_reject_inet",
    *("ip_tables", "iptable_filter", "iptable_mangle", "iptable_nat", "iptable_raw", "ipt_REJECT"),
    *("ip6_tables", "ip6table_filter", "ip6table_mangle", "ip6table_nat", "ip6t_REJECT"),
    *("xt_LOG", "xt_MASQUERADE", "xt_REDIRECT", "xt_TCPMSS", "xt_addrtype", "xt_comment"),
    *("xt_conntrack", "xt_limit", "xt_mark", "xt_multiport", "xt_nat", "xt_owner", "xt_state"),
    *("xt_statistic", "xt_tcpudp", "nf_conntrack_netlink", "br_netfilter"),
    *("sch_netem", "sch_tbf", "sch_htb", "sch_ingress", "cls_u32", "act_mirred", "ifb"),
    *("wireguard", "8021q", "bonding", "ip_gre", "ipip", "ipvlan", "macvlan", "sit", "vxlan"),
]

# All programs are in one directory, which has several names.
_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "usr/sbin": "bin",
    "usr/local/sbin": "bin",
    "etc/mtab": "/proc/self/mounts",
    "var/lock": "/run/lock",
    "var/run": "/run",
    "var/spool/mail": "../mail",
    # A process's own descriptors; programs write to them by name.
    "dev/fd": "/proc/self/fd",
    "dev/stdin": "/proc/self/fd/0",
    "dev/stdout": "/proc/self/fd/1",
    "dev/stderr": "/proc/self/fd/2",
}
_DIRECTORIES = [
    "dev/pts",
    "dev/shm",
    "etc/init.d",
    "etc/opt",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "usr/bin",
    "usr/lib",
    "usr/libexec",
    "usr/local/bin",
    "usr/local/etc",
    "usr/local/lib",
    "usr/local/share",
    "usr/share",
    "usr/src",
    "var/cache",
    "var/lib/misc",
    "var/local",
    "var/log",
    "var/opt",
    "var/spool/cron",
    "var/www",
]
_OPEN = ("tmp", "var/tmp")  # writable for every user
_SHADOW = "etc/shadow"
_SHADOW_GROUP = 42
_MAIL_GROUP = 8
# The kernel opens the first two for the first process, before anything is mounted. The others
# load their module when they are opened.
_DEVICES = [
    character_device("dev/console", 5, 1),
    character_device("dev/null", 1, 3, 0o666),
    character_device("dev/fuse", 10, 229, 0o666),
    character_device("dev/loop-control", 10, 237),
    character_device("dev/net/tun", 10, 200, 0o666),
]
_TESTER = (1000, 1000)
# The getopt string of busybox's wget, and the long option that it has if -T is implemented.
_WGET_OPTION = re.compile(rb"(?<=:P:Y:U:)T(?=:\+t:n::)")
_WGET_TIMEOUT = b"user-agent\0\1Utimeout\0\1T"
_NO_OPTION = b"\1"  # cannot be typed as an option


def guest_root(
    rootfs: Path, busybox: bytes, agent: bytes, modules: ModuleTree, *, console: str
) -> list[Entry]:
    """All files that the default guest starts with.

    Args:
        rootfs: the directory with its configuration.
        busybox: the static program.
        agent: core-infra's agent, a static program.
        modules: the kernel's modules.
        console: the serial line with a shell.

    Raises:
        NotFoundError: the kernel lacks a required module.
        InvalidError: a module, or busybox, has an unknown layout.
    """
    return [
        *(directory(path) for path in _DIRECTORIES),
        *(directory(path, 0o1777) for path in _OPEN),
        directory("var/spool/cron/crontabs", 0o700),
        directory("var/mail", 0o2775, owner=(0, _MAIL_GROUP)),
        directory("home/tester", 0o755, owner=_TESTER),
        *_DEVICES,
        *(symlink(path, target) for path, target in _LINKS.items()),
        file("usr/bin/busybox", _without_wget_timeout(busybox), 0o755),
        *(symlink(f"usr/bin/{name}", "busybox") for name in _applets(busybox)),
        file("usr/bin/core-infra-agent", agent, 0o755),
        file("var/log/wtmp", b""),
        *_configuration(rootfs, console),
        *_modules(modules),
    ]


def _configuration(rootfs: Path, console: str) -> list[Entry]:
    entries = []
    for path in sorted(rootfs.rglob("*")):
        if path.is_file():
            data = path.read_bytes().replace(b"@CONSOLE@", console.encode())
            # A wheel does not keep permissions: a file that begins like a script is one.
            permissions = 0o755 if data.startswith(b"#!") else 0o644
            entry = file(str(path.relative_to(rootfs)), data, permissions)
            if entry.path == _SHADOW:
                entry = replace(entry, mode=stat.S_IFREG | 0o640, owner=(0, _SHADOW_GROUP))
            entries.append(entry)
    return entries


def _modules(tree: ModuleTree) -> list[Entry]:
    modules = tree.select(_NEEDED, (*_LOADED_AT_BOOT, *_ON_DEMAND))
    plain = {module.name for module in modules}
    modules += [packed(one) for one in tree.select((), _PACKED) if one.name not in plain]
    # Some kernels have drivers built in, which modprobe would report as missing.
    boot = [module.name for module in modules if module.name in _LOADED_AT_BOOT]
    root = f"usr/lib/modules/{tree.release}"
    return [
        symlink("lib", "usr/lib"),
        *(file(f"{root}/{module.path}", module.data) for module in modules),
        *(file(f"{root}/{name}", data) for name, data in index(modules).items()),
        file("usr/lib/modules/boot", "".join(f"{name}\n" for name in boot).encode()),
    ]


def _applets(busybox: bytes) -> list[str]:
    """The names of the programs inside busybox, for any architecture.

    Busybox has them in one sorted table: a zero byte ends each name, another one the table.

    Raises:
        InvalidError: the file does not have this table.
    """
    start = busybox.find(b"[\0[[\0")  # its first two names
    end = busybox.find(b"\0\0", start)
    names = busybox[start:end].decode("ascii", "replace").split("\0")
    if start < 0 or not {"busybox", "init", "modprobe", "mount", "sh"} <= set(names):
        raise InvalidError("The file is not a busybox that a guest can start with")
    return [name for name in names if name != "busybox"]


def _without_wget_timeout(busybox: bytes) -> bytes:
    """Busybox without the option of its wget that ends in a segmentation fault.

    Debian 12 builds wget without timeouts; this version still accepts -T, and writes its value to
    address 0. With -T removed from its option table, wget reports an unknown option instead.
    """
    if _WGET_TIMEOUT in busybox:
        return busybox
    return _WGET_OPTION.sub(_NO_OPTION, busybox)
