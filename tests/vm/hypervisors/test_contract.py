"""The hypervisors that are known here, held to the published contract."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.testing._hypervisor_contract import HypervisorContract
from core_infra.vm._cache import cache_root
from core_infra.vm._hardware import Disk
from core_infra.vm._hypervisors.detect import detect_hypervisor, get_hypervisor
from core_infra.vm._hypervisors.hyperkit import HyperkitHypervisor
from core_infra.vm._hypervisors.hypervisor import PersistentSpec, Share
from core_infra.vm._hypervisors.qemu import QemuHypervisor
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.image import Image, host_arch

if TYPE_CHECKING:
    from pathlib import Path

# Takes what Hyperkit's manual names, writes and waits as it does. There is no Mac here.
STAND_IN = f"""\
#!{sys.executable}
import os, sys, time
if sys.argv[1:] == ["-v"]:
    sys.exit("hyperkit: v0.20210107\\n")
options = dict(zip(sys.argv[3:], sys.argv[4:]))
open(options["-F"], "w").write(str(os.getpid()))
log = next(part for part in options["-l"].split(",") if part.startswith("log=")).partition("=")[2]
kind, kernel, initrd, cmdline = options["-f"].split(",", 3)
assert kind == "kexec" and os.path.exists(kernel) and os.path.exists(initrd)
open(log, "w").write("Linux version 1\\n")
time.sleep(600)
"""


class TestQemu(HypervisorContract):
    formats = ("raw", "qcow2", "vmdk", "iso")

    def make_hypervisor(self) -> QemuHypervisor:
        return QemuHypervisor()

    def make_image(self) -> Image:
        return default_image(host_arch(), cache_dir=cache_root())


class TestHyperkit(HypervisorContract):
    @pytest.fixture(autouse=True)
    def on_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "hyperkit"
        program.write_text(STAND_IN)
        program.chmod(0o755)
        for name in ("kernel", "initrd"):
            (tmp_path / name).touch()
        self.directory = tmp_path
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def make_hypervisor(self) -> HyperkitHypervisor:
        return HyperkitHypervisor()

    def make_image(self) -> Image:
        kernel, initrd = self.directory / "kernel", self.directory / "initrd"
        return Image(
            kernel, initrd, "console=ttyS0 a,b", "x86_64", "it", has_agent=False, console="ttyS0"
        )


def spec(directory: Path, **parts: object) -> PersistentSpec:
    return PersistentSpec("it", directory, "x86_64", 128, 1, **parts)  # type: ignore[arg-type]


def test_qemu_is_the_one_to_be_had() -> None:
    assert detect_hypervisor().name == "qemu"
    with pytest.raises(NotFoundError, match="known are qemu, hyperkit"):
        get_hypervisor("none")


def test_none_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not HyperkitHypervisor().available()
    with pytest.raises(UnavailableError, match="looked for qemu, hyperkit"):
        detect_hypervisor()


def test_commas_end_none_of_qemus_arguments(tmp_path: Path) -> None:
    path = tmp_path / "a,b"
    disks = [Disk(path, "qcow2", boot=True), Disk(path, "iso", read_only=True, disc=True)]
    command = QemuHypervisor().build(spec(path, disks=disks, shares=[Share("v", path)]), "tcg")
    told = [part for part in command if "a,b" in part.replace("a,,b", "") and part[0] != "{"]
    assert told == [f"{path}/hypervisor.pid"], "an argument of its own needs no quoting"


def test_a_disk_boots_with_a_bios_that_can(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "d", "raw", boot=True)
    command = QemuHypervisor().build(spec(tmp_path, disks=[disk]), "tcg")
    assert "-bios" not in command
    assert "-no-reboot" not in command
    assert any('"driver": "raw"' in part for part in command), "what is guessed can be forged"


@pytest.mark.parametrize(
    ("parts", "why"),
    [({}, "boots no disks"), ({"arch": "aarch64"}, "no guests for aarch64")],
)
def test_what_hyperkit_cannot_run(tmp_path: Path, parts: dict[str, str], why: str) -> None:
    image = (
        None if not parts else Image(tmp_path, None, "", "aarch64", "", has_agent=False, console="")
    )
    machine = PersistentSpec("it", tmp_path, parts.get("arch", "x86_64"), 128, 1, image)
    with pytest.raises(InvalidError, match=why):
        HyperkitHypervisor().build(machine, "")
