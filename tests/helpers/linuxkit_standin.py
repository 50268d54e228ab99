"""An image like those of LinuxKit: a kernel and an initrd with an SSH server, and no agent of ours.

Its kernel and its files are the default image's; Debian's dropbear comes on top, in a second
archive, as the kernel allows it. Like LinuxKit's package ``metadata``, it reads from a disc who may
log in.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.vm._images.default import apt
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.initrd import cpio, directory, file, symlink

if TYPE_CHECKING:
    from core_infra.vm._images.image import Image
    from core_infra.vm._images.initrd import Entry

PACKAGES = (
    "dropbear-bin",
    "libtomcrypt1",
    "libtommath1",
    "libgmp10",
    "libcrypt1",
    "zlib1g",
    "libc6",
)
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}

SERVER = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
modprobe -a virtio_scsi sr_mod isofs
until [ -b /dev/sr0 ]; do sleep 0.1; done
mount -t iso9660 /dev/sr0 /mnt
mkdir -p /root/.ssh /etc/dropbear
sed 's/.*"content": "\\([^"]*\\)\\\\n".*/\\1/' /mnt/config >/root/.ssh/authorized_keys
chmod 700 /root /root/.ssh
umount /mnt
echo "a service says hello"
exec dropbear -F -E -R -s
"""

INITTAB = """\
::sysinit:/etc/init.d/rcS
::respawn:/sbin/core-infra-agent --port org.core-infra.agent.0
{console}::once:/etc/init.d/sshd
{console}::respawn:-/bin/sh
::shutdown:/bin/umount -a -r
"""


def unpack(names: tuple[str, ...], cache: Path, target: Path) -> Path:
    """Download packages and unpack them into a directory."""
    packages = apt.fetch(
        names,
        ARCHES[host_arch()],
        directory=cache / "test-packages",
        state=cache / "apt" / host_arch(),
        progress=lambda _line: None,
    )
    for path in packages.values():
        subprocess.run(["dpkg-deb", "--extract", path, target], check=True)
    return target


def make(default: Image, root: Path, target: Path) -> Path:
    """Write the image's files; what their names begin with."""
    assert default.initrd is not None
    prefix = target / "standin"
    shutil.copyfile(default.kernel, f"{prefix}-kernel")
    extra = cpio(
        [
            *_libraries(root),
            file("usr/bin/dropbear", (root / "usr/sbin/dropbear").read_bytes(), 0o755),
            directory("etc/dropbear"),
            file("etc/init.d/sshd", SERVER.encode(), 0o755),
            file("etc/inittab", INITTAB.format(console=default.console).encode()),
            file("etc/shells", b"/bin/sh\n"),
        ]
    )
    first = default.initrd.read_bytes()
    Path(f"{prefix}-initrd.img").write_bytes(first + b"\0" * (-len(first) % 512) + extra)
    Path(f"{prefix}-cmdline").write_text(default.cmdline)
    return prefix


def _libraries(root: Path) -> list[Entry]:
    files = [
        path
        for path in sorted(root.rglob("*.so*"))
        if path.parent.name.endswith("-linux-gnu") or path.name.startswith("ld-linux")
    ]
    found = [file(f"usr/lib/{one.name}", one.resolve().read_bytes(), 0o755) for one in files]
    return [symlink("lib64", "usr/lib"), *{entry.path: entry for entry in found}.values()]
