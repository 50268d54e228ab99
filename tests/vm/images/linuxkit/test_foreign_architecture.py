"""A LinuxKit file becomes a machine of another architecture than this host's."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from core_infra.vm import Launcher, load_image
from core_infra.vm._images.image import host_arch
from linuxkit_images import write_busybox

if TYPE_CHECKING:
    from pathlib import Path

ARCH = "aarch64" if host_arch() == "x86_64" else "x86_64"
FILE = """\
onboot:
- {{name: once, image: {image}, command: [sh, -c, 'busybox uname -m >/shared/arch']}}
services:
- {{name: stays, image: {image}, command: [busybox, sleep, '100000']}}
files:
- {{path: var/shared, directory: true, mode: '1777'}}
"""


@pytest.mark.long
@pytest.mark.skipif(not shutil.which(f"qemu-system-{ARCH}"), reason="QEMU for it is not installed")
def test_its_containers_run(tmp_path: Path) -> None:
    image = write_busybox(tmp_path / "image", label={"binds": ["/var/shared:/shared"]}, arch=ARCH)
    file = tmp_path / "foreign.yml"
    file.write_text(FILE.format(image=image))
    with Launcher(image=load_image(file, arch=ARCH)) as launcher, launcher.clone() as machine:
        assert machine.read_text("/var/shared/arch") == f"{ARCH}\n"
        done = machine.exec("oci-runtime exec stays busybox uname -m", check=True)
        assert done.stdout == f"{ARCH}\n"
