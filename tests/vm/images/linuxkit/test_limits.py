"""Large images take little memory, and a full disk is one sentence that leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core_infra.vm._images.image import host_arch
from oci_images import Entry, layer, write_layout
from oci_registry import LayoutRegistry

PROGRAM = Path(__file__).with_name("programs") / "on_small_means.py"
ALONE = ("unshare", "--mount", "--map-root-user")
LARGE = 96 << 20
FILE = """\
kernel: {{image: 'oci-layout:{kernel}'}}
init: ['{image}']
services:
- {{name: app, image: '{image}'}}
"""


@pytest.mark.skipif(host_arch() != "x86_64", reason="syslinux is for x86-64")
def test_a_large_image_takes_little_memory_and_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run([*ALONE, "mount", "-t", "tmpfs", "x", small], check=False).returncode:
        pytest.skip("mounting a small file system needs root, or user namespaces")
    kernel = bytes(0x202) + b"HdrS" + bytes(1000)
    write_layout(tmp_path / "kernel", [layer([Entry("kernel", data=kernel)])])
    images = {"little": b"x", "large": bytes(LARGE), "noise": os.urandom(20 << 20)}
    for name, data in images.items():
        write_layout(tmp_path / name, [layer([Entry("app", data=data)])], config={"Cmd": ["/app"]})
    with LayoutRegistry({"": tmp_path / "noise"}) as registry:
        places = {name: f"oci-layout:{tmp_path / name}" for name in ("little", "large")}
        places["remote"] = f"{registry.address}/noise:v1"
        files = [tmp_path / f"{name}.yml" for name in places]
        for file, image in zip(files, places.values(), strict=True):
            file.write_text(FILE.format(kernel=tmp_path / "kernel", image=image))
        command = [*ALONE, sys.executable, str(PROGRAM), str(small), *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
