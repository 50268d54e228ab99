"""Assembles images with little memory, and on disks without room.

Arguments: a directory, which gets a small file system; the LinuxKit files of a small and of a large
image; a LinuxKit file whose image a registry has.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core_infra.vm._free_space import HostFullError
from core_infra.vm._images.linuxkit.output import build_files

FORMATS = ("kernel+initrd", "tar", "raw", "qcow2", "iso")
SPARE = 24 << 10  # KiB of memory


def build(file: Path, directory: Path, *formats: str) -> None:
    build_files(
        [file], directory, name="n", arch="x86_64", formats=formats, progress=lambda _line: None
    )


def peak() -> int:
    """The most memory, in KiB, that this process has had."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def is_full(file: Path, directory: Path, *formats: str) -> None:
    with pytest.raises(HostFullError, match="No space left on device: ") as caught:
        build(file, directory, *formats)
    assert len(str(caught.value).splitlines()) <= 2


def main() -> None:
    small, little, large, remote = map(Path, sys.argv[1:])
    build(little, little.parent / "little", *FORMATS)
    before = peak()
    build(large, large.parent / "large", *FORMATS)
    assert peak() - before < SPARE, f"{before} KiB, then {peak()} KiB"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", small], check=True)
    for one in FORMATS:
        is_full(large, small / "out", one)
        assert list((small / "out").iterdir()) == [], one
    os.environ["CORE_INFRA_CACHE_DIR"] = str(small / "cache")
    is_full(remote, remote.parent / "remote", "tar")
    left = [path for path in (small / "cache").rglob("*") if path.is_file() and path.stat().st_size]
    assert all(path.stat().st_size < 1 << 20 for path in left), left


if __name__ == "__main__":
    main()
