"""The root file system of machines whose file names no ``init``: our own.

It is the default image's, with another first process (``csrc/init``), and the container runtime
of this host's packages: crun, or runc where there is no crun.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from core_infra._binaries import init_binary
from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm._images.default.modules import section
from core_infra.vm._images.disk.tree import Node, Piece
from core_infra.vm._images.linuxkit.kept_packages import kept_packages
from core_infra.vm._images.linuxkit.root import Root, symlink
from core_infra.vm._images.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_RUNTIMES = ("crun", "runc")
_LIBRARIES = "usr/lib"
_LEFT_OUT = (
    *("init", "etc/init.d/rcS", "etc/inittab", "etc/fstab", "usr/bin/core-infra-agent"),
    "usr/lib/modules",
)
_DHCP = "usr/share/udhcpc/default.script"
_DHCP_SCRIPT = """\
#!/bin/sh
# What busybox's udhcpc runs when it has an address.
case $1 in bound | renew) ;; *) exit 0 ;; esac
ifconfig "$interface" "$ip" netmask "${subnet:-255.255.255.0}" up
for gateway in $router; do route add default gw "$gateway" dev "$interface"; done
for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
"""
_NEEDED = 1  # a tag of the section .dynamic


def own_init(default: Node, arch: str, work: Path, progress: Callable[[str], None]) -> Node:
    """Return the tree of the system that runs the containers.

    Args:
        default: the tree of the default image, of which its programs are taken.
        arch: the machine's architecture.
        work: a directory for unpacked packages. They must stay for as long as the tree is read.
        progress: is called with a line of text before anything slow.

    Raises:
        UnavailableError: the runtime's package cannot be had.
    """
    root = Root()
    root.put(default)
    for path in _LEFT_OUT:
        above, _, name = path.rpartition("/")
        root.make(above).entries.pop(name.encode(), None)
    root.add("init", _program(init_binary(arch)))
    root.add_text(_DHCP, _DHCP_SCRIPT, 0o755)
    unpacked = work / "runtime"
    for deb in runtime_packages(arch, progress):
        run(["dpkg-deb", "--extract", str(deb), str(unpacked)])
    runtime = next(
        program
        for name in _RUNTIMES
        for program in (unpacked / "usr" / "bin" / name, unpacked / "usr" / "sbin" / name)
        if program.is_file()
    )
    root.add("usr/bin/oci-runtime", _file(runtime))
    for target, library in libraries(runtime, unpacked).items():
        root.add(target, _file(library))
    if arch == "x86_64":  # where its programs look for their loader
        root.add("lib64", symlink(_LIBRARIES))
    return root.tree


def own_init_key(arch: str, progress: Callable[[str], None]) -> str:
    """Return a digest of what our system is made of, apart from the default image.

    Takes the arguments of :func:`own_init`, and raises the same errors.
    """
    total = hashlib.sha256(init_binary(arch))
    for path in runtime_packages(arch, progress):
        total.update(f"\0{path.name}".encode())
    return total.hexdigest()


def runtime_packages(arch: str, progress: Callable[[str], None]) -> list[Path]:
    """Return the packages of the runtime and its libraries; their names have their versions.

    Raises:
        UnavailableError: they cannot be had.
    """
    for name in _RUNTIMES:
        with suppress(NotFoundError):
            return kept_packages("runtime", [name], arch, progress=progress, libraries=True)
    raise UnavailableError(
        "cannot run containers without an init of the file's own",
        why=f"apt knows no package {' or '.join(_RUNTIMES)}",
        todo="Name the images of LinuxKit's init and runtime in the file's section init.",
    )


def libraries(program: Path, unpacked: Path) -> dict[str, Path]:
    """Return the libraries that a program needs, and its loader, by their places in the guest.

    Args:
        program: an ELF file.
        unpacked: the directory that has the files of its packages.

    Raises:
        InvalidError: a library is missing.
    """
    known = {path.name: path for path in sorted(unpacked.rglob("*.so*")) if path.is_file()}
    interpreter = section(program.read_bytes(), b".interp").rstrip(b"\0").decode()
    loader = interpreter.rpartition("/")[2]
    found, waiting = {}, [loader, *_needs(program)]
    while waiting:
        name = waiting.pop()
        place = f"{_LIBRARIES}/{name}"
        if place in found:
            continue
        if name not in known:
            raise InvalidError(f"the packages of {program.name} lack the library {name}")
        found[place] = known[name].resolve()
        waiting += _needs(found[place])
    return found


def _needs(path: Path) -> list[str]:
    """Return the names of the libraries that an ELF file is linked with."""
    elf = path.read_bytes()
    names, dynamic = section(elf, b".dynstr"), section(elf, b".dynamic")
    starts = [value for tag, value in struct.iter_unpack("<QQ", dynamic) if tag == _NEEDED]
    return [names[start : names.index(b"\0", start)].decode() for start in starts]


def _program(data: bytes) -> Node:
    return Node(stat.S_IFREG | 0o755, size=len(data), pieces=(Piece(0, len(data), data=data),))


def _file(path: Path) -> Node:
    size = path.stat().st_size
    return Node(stat.S_IFREG | 0o755, size=size, pieces=(Piece(0, size, path),))
