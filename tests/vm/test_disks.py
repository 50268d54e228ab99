"""Disks of machines: of its own in each clone, over images that stay as they are."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import InvalidError, NotFoundError
from core_infra.vm import Launcher, Machine, MachinePausedError, Status

if TYPE_CHECKING:
    from pathlib import Path

MOUNT = "mkdir -p /data && mount /dev/vda /data"
FORMAT = f"mke2fs -q /dev/vda && {MOUNT}"  # busybox makes ext2, which ext4's driver mounts


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A qcow2 image over a raw one, which says ``seeded`` in its first sector."""
    raw, layer = tmp_path / "raw.img", tmp_path / "layer, with a comma.qcow2"
    raw.write_bytes(b"seeded".ljust(1 << 20, b"\0"))
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(raw), str(layer)]
    subprocess.run(command, check=True)
    return layer


def digests(directory: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir()}


def first_sector(machine: Machine) -> str:
    return machine.exec("head -c 6 /dev/vda", check=True).stdout


def test_each_clone_writes_to_its_own(cloning: Launcher, image: Path) -> None:
    before = digests(image.parent)
    first, second = (cloning.clone(disks=[image]) for _ in range(2))
    assert first_sector(first) == first_sector(second) == "seeded"
    first.exec("printf mine__ | dd of=/dev/vda conv=fsync,notrunc", check=True)
    third = cloning.clone(disks=[image])
    assert [first_sector(m) for m in (first, second, third)] == ["mine__", "seeded", "seeded"]
    for machine in (first, second, third):
        cloning.discard(machine)
    assert digests(image.parent) == before
    assert cloning.leaks() == []


def test_revert_takes_disk_and_memory_back_together(cloning: Launcher) -> None:
    machine = cloning.clone(disks=["64M"])
    machine.exec(f"{FORMAT} && echo one >/data/file && sync", check=True)
    machine.snapshot("one")
    machine.exec("echo two >/data/file && sync", check=True)
    machine.snapshot("two")
    for name in ("one", "two", "one"):
        machine.revert(name)
        assert machine.read_text("/data/file") == f"{name}\n"
        machine.exec("echo 3 >/proc/sys/vm/drop_caches")
        assert machine.read_text("/data/file") == f"{name}\n", "the disk must say so, too"
        machine.exec("echo other >/data/file && sync", check=True)
    machine.revert()
    assert machine.exec("head -c 4096 /dev/vda | tr -d '\\0'").stdout == ""
    cloning.discard(machine)


@pytest.mark.long
@pytest.mark.parametrize("cache", [None, "v1"])
def test_what_was_prepared_on_a_disk_is_in_each_clone(
    cloning: Launcher, tmp_path: Path, cache: str | None
) -> None:
    word = None if cache is None else f"{cache}-{tmp_path}"  # prepared now, not by a former run
    calls = []

    def prepare(machine: Machine) -> None:
        calls.append(machine.name)
        machine.exec(f"{FORMAT} && head -c 3000000 /dev/urandom >/data/blob", check=True)
        machine.exec("sha256sum </data/blob >/data/sum && sync", check=True)

    prepared = cloning.prepare(prepare, disks=["64M"], cache=word)
    for _ in range(2):
        machine = prepared.clone()
        machine.exec("echo 3 >/proc/sys/vm/drop_caches", check=True)
        told = machine.exec("sha256sum </data/blob | cmp - /data/sum && umount /data")
        assert told.exit_code == 0, told.stderr
        machine.exec("dd if=/dev/zero of=/dev/vda bs=1M count=1 && sync", check=True)
        assert machine.exec(MOUNT).exit_code != 0, "it has no file system any more"
        cloning.discard(machine)
    if word:
        again = cloning.prepare(prepare, disks=["64M"], cache=word)
        again.clone().exec("cmp /data/sum /data/sum", check=True)
        again.close()
    prepared.close()
    assert len(calls) == 1


@pytest.mark.long
def test_a_changed_image_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "data.img"
    with Launcher(accelerator="tcg", memory=128) as launcher:
        for text in (b"first_", b"second"):
            path.write_bytes(text.ljust(1 << 20, b"\0"))
            assert first_sector(launcher.clone(disks=[path])) == text.decode()


def test_a_disk_that_cannot_be_written_pauses_the_machine(cloning: Launcher) -> None:
    machine = cloning.clone(disks=["64M"])
    _, hard = resource.prlimit(machine.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(machine.pid, resource.RLIMIT_FSIZE, (2 << 20, hard))
    fill = "dd if=/dev/zero of=/dev/vda bs=1M count=8 conv=fsync"
    with pytest.raises(MachinePausedError, match=r"machine vm\d+ is paused: .*File too large: /"):
        machine.exec(fill, timeout=600)
    assert machine.status is Status.PAUSED
    resource.prlimit(machine.pid, resource.RLIMIT_FSIZE, (hard, hard))
    while machine.status is Status.PAUSED:
        time.sleep(0.05)
    machine.exec(f"{fill} && sync", check=True)
    assert machine.pause_reason is None
    cloning.discard(machine)


def test_a_disk_that_changes_under_a_machine_is_said(cloning: Launcher, tmp_path: Path) -> None:
    path = tmp_path / "data.img"
    path.write_bytes(b"first_".ljust(1 << 20, b"\0"))
    machine = cloning.clone(disks=[path])
    assert first_sector(machine) == "first_"
    with path.open("r+b") as file:
        file.write(b"second")
    with pytest.raises(InvalidError, match=r"the disk .*data\.img has changed"):
        machine.revert()
    cloning.discard(machine)
    again = cloning.clone(disks=[path])
    assert first_sector(again) == "second"
    cloning.discard(again)


def test_a_cold_machine_has_disks_and_discs(tmp_path: Path) -> None:
    disc = tmp_path / "a.iso"
    disc.write_bytes(b"\0" * 0x8001 + b"CD001" + b"\0" * 4096)
    with Launcher(accelerator="tcg", memory=128) as launcher:
        machine = launcher.boot(disks=["1G", disc])
        assert machine.exec("cat /sys/block/vda/size", check=True).stdout == f"{1 << 21}\n"
        assert machine.exec("dd if=/dev/vdb bs=1 skip=32769 count=5").stdout == "CD001"
        assert machine.exec("echo x | dd of=/dev/vdb").exit_code != 0, "it is read only"


@pytest.mark.parametrize(
    ("disks", "error", "said"),
    [
        ("2G", InvalidError, "list"),
        (["0G"], InvalidError, "neither a known size"),
        (["100T"], InvalidError, "64T"),
        (["no-such.qcow2"], NotFoundError, "no-such.qcow2"),
        ([__file__], InvalidError, "test_disks.py"),
        ([""], InvalidError, "cannot use '' as a disk"),
        (["/tmp"], InvalidError, "directory"),
        (["64m"], InvalidError, "neither a known size"),
        (["/dev/zero"], InvalidError, "a character device"),
        ([64], InvalidError, "64"),
        (["a\0b"], InvalidError, "as a disk"),
        (["1G"] * 40, InvalidError, "20 are the most"),
    ],
)
def test_what_is_no_disk_is_refused(disks: Any, error: type[Exception], said: str) -> None:
    with Launcher(accelerator="tcg") as launcher, pytest.raises(error, match=said):
        launcher.clone(disks=disks)


def test_a_damaged_image_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.qcow2"
    path.write_bytes(b"QFI\xfb" + b"\xff" * 1000)
    with (
        Launcher(accelerator="tcg") as launcher,
        pytest.raises(InvalidError, match=r"broken\.qcow2"),
    ):
        launcher.clone(disks=[path])


def test_a_disk_that_was_cut_is_not_read_as_zeros(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.raw", tmp_path / "cut.qcow2"
    whole.write_bytes(b"bbbb" * 500_000)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(whole), str(cut)], check=True)
    os.truncate(cut, 100_000)
    with Launcher(accelerator="tcg") as launcher, pytest.raises(InvalidError, match=r"cut\.qcow2"):
        launcher.clone(disks=[cut])


@pytest.mark.parametrize("name", [5, "", "x" * 200, "a/b", "-q", "a\nb"])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with Launcher(accelerator="tcg") as launcher, pytest.raises(InvalidError, match="cannot name"):
        launcher.boot(name=name)


def test_a_comma_in_a_name_is_no_option(launcher: Launcher) -> None:
    with launcher.clone(name="a,debug-threads=on") as machine:
        assert machine.exec("hostname").stdout == "a-debug-threads-on\n"


def test_a_misspelt_size_is_no_size() -> None:
    with Launcher(accelerator="tcg") as launcher, pytest.raises(TypeError, match="'memroy'"):
        launcher.clone(memroy=512)  # type: ignore[call-arg]
