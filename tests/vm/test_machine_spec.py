"""What a machine is made of: its test's wishes, the launcher's options, its image's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm import Launcher
from core_infra.vm._cache import cache_root
from core_infra.vm._hardware import memory_advice
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import DiskImage, Image, host_arch

if TYPE_CHECKING:
    from core_infra.vm._machine_spec import MachineSpec

OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}[host_arch()]


@pytest.fixture(scope="module")
def default() -> Image:
    return default_image(host_arch(), cache_dir=cache_root())


def spec(image: Image | DiskImage, options: dict[str, Any], **sizes: Any) -> MachineSpec:
    with Launcher(image=image, accelerator="tcg", **options) as launcher:
        return launcher.spec("it", **sizes)


def test_a_test_overrides_the_options_and_they_the_image(default: Image) -> None:
    image = replace(default, memory=301, cpus=3, cpu="a")
    made = spec(image, {})
    assert (made.memory, made.cpus, made.cpu) == (301, 3, "a")
    options = {"memory": 302, "cpus": 2, "cpu": "b"}
    made = spec(image, options)
    assert (made.memory, made.cpus, made.cpu) == (302, 2, "b")
    made = spec(image, options, memory=303, cpus=1, cpu="c")
    assert (made.memory, made.cpus, made.cpu) == (303, 1, "c")
    with pytest.raises(InvalidError, match="0 cpus"):
        spec(image, {}, cpus=0)


@pytest.mark.skipif(host_arch() != "x86_64", reason="it was measured on x86_64")
def test_an_image_of_ours_is_refused_less_memory_than_it_boots_with(
    default: Image, tmp_path: Path
) -> None:
    with pytest.raises(InvalidError, match=r"with 80 MiB .*default .* needs at least 88 MiB"):
        spec(default, {}, memory=80)
    assert spec(default, {}, memory=88).memory == 88
    small = tmp_path / "initrd"
    small.write_bytes(b"cpio")
    assert spec(default, {}, memory=80, initrd=small).memory == 80, "this one may do with less"
    with pytest.raises(InvalidError, match="a Linux kernel needs at least 64 MiB"):
        spec(default, {}, memory=63, initrd=small)


def test_a_command_line_is_added_to_the_images(default: Image) -> None:
    made = spec(default, {}, cmdline="quiet a=b")
    assert isinstance(made.image, Image)
    assert made.image.cmdline == f"{default.cmdline} quiet a=b"


def test_another_kernel_brings_its_initrd_by_its_name(default: Image, tmp_path: Path) -> None:
    kernel = tmp_path / "it-kernel"
    kernel.write_bytes(default.kernel.read_bytes())
    made = spec(default, {}, kernel=kernel)
    assert made.image == replace(default, kernel=kernel)
    initrd = tmp_path / "it-initrd.img"
    initrd.write_bytes(b"cpio")
    assert spec(default, {}, kernel=str(kernel)).image == replace(
        default, kernel=kernel, initrd=initrd
    )
    made = spec(default, {}, kernel=kernel, initrd=default.initrd)
    assert made.image == replace(default, kernel=kernel)


def test_a_kernel_finds_its_root_on_a_disk(default: Image, tmp_path: Path) -> None:
    disk = DiskImage(tmp_path / "d.raw", ImageFormat.RAW, host_arch(), "d.raw", memory=300)
    disk.path.write_bytes(bytes(4096))
    made = spec(disk, {}, kernel=default.kernel, cmdline="init=/it")
    assert isinstance(made.image, Image)
    assert made.image.cmdline.endswith("root=/dev/vda rw init=/it")
    assert (made.memory, [each.path for each in made.disks]) == (300, [disk.path])
    with pytest.raises(InvalidError, match="which boots a kernel of its own"):
        spec(disk, {}, cmdline="a")


def test_what_is_no_kernel_or_no_line_is_refused(default: Image, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("text")
    with pytest.raises(InvalidError, match="is not a bootable kernel"):
        spec(default, {}, kernel=text)
    with pytest.raises(NotFoundError):
        spec(default, {}, initrd=tmp_path / "nowhere")
    for wrong in ("a\nb", 5):
        with pytest.raises(InvalidError, match="as a command line"):
            spec(default, {}, cmdline=wrong)


def test_a_kernel_is_for_one_architecture(default: Image) -> None:
    with pytest.raises(InvalidError, match=f"its kernel is for {host_arch()}"):
        spec(default, {}, arch=OTHER)
    with pytest.raises(InvalidError, match="there are no machines for the architecture 'vax'"):
        spec(default, {}, arch="vax")
    assert spec(default, {}, arch=host_arch()).image == default


def test_only_this_hosts_architecture_is_accelerated() -> None:
    disk = DiskImage(Path("d"), ImageFormat.RAW, OTHER, "d")
    with Launcher(image=disk) as launcher:
        assert launcher.accelerator.name == "tcg"
        assert launcher.accelerator.reason == f"{OTHER} is not this host's architecture"
    with (
        Launcher(image=disk, accelerator="kvm") as launcher,
        pytest.raises(UnavailableError, match=f"the accelerator kvm does not work for {OTHER}"),
    ):
        launcher.accelerator  # noqa: B018 - raises


def test_what_is_missing_for_another_architecture_is_named_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    package = {"aarch64": "qemu-system-arm", "x86_64": "qemu-system-x86"}[OTHER]
    with (
        Launcher(arch=OTHER) as launcher,
        pytest.raises(UnavailableError, match=f"apt-get install {package}"),
    ):
        launcher.spec("it")


def test_an_image_with_a_disk_is_a_machine_by_itself(default: Image, tmp_path: Path) -> None:
    (tmp_path / "data.raw").write_bytes(b"of the image".ljust(4096, b"\0"))
    (tmp_path / "image.yaml").write_text(
        f"kernel: {default.kernel}\ninitrd: {default.initrd}\ncmdline: {default.cmdline} a.b\n"
        "disk: data.raw\nmemory: 150\ncpu: max,aes=off\n"
    )
    with Launcher(accelerator="tcg", ready=0) as launcher:
        first = launcher.clone(tmp_path)
        assert first.exec("head -c 12 /dev/vda").stdout == "of the image"
        assert " a.b " in first.exec("cat /proc/cmdline").stdout
        assert (
            100_000 < int(first.exec("awk '/MemTotal/{print $2}' /proc/meminfo").stdout) < 150_000
        )
        if host_arch() == "x86_64":
            flags = first.exec("grep -m1 ^flags /proc/cpuinfo").stdout.split()
            assert "sse4_2" in flags
            assert "aes" not in flags
        first.exec("echo mine >/dev/vda; sync", check=True)
        second = launcher.clone(tmp_path)
        assert second.exec("head -c 12 /dev/vda").stdout == "of the image"


def test_a_launcher_takes_the_path_of_an_image(default: Image, tmp_path: Path) -> None:
    assert default.initrd is not None
    (tmp_path / "it-kernel").symlink_to(default.kernel)
    (tmp_path / "it-initrd.img").symlink_to(default.initrd)
    (tmp_path / "it-cmdline").write_text(default.cmdline)
    with Launcher(image=str(tmp_path / "it"), accelerator="tcg") as launcher:
        assert launcher.spec("one").image.name == "it"
    with (
        Launcher(image=tmp_path / "none", accelerator="tcg") as launcher,
        pytest.raises(NotFoundError, match="none"),
    ):
        launcher.spec("one")


@pytest.mark.parametrize(
    ("said", "advised"),
    [
        ("Kernel panic - not syncing: System is deadlocked on memory", "96 MiB are too few"),
        ("Kernel panic - not syncing: Out of memory: compulsory panic", "96 MiB are too few"),
        ("Kernel panic - not syncing: Attempted to kill init!", ""),
        ("", ""),
    ],
)
def test_a_kernel_that_lacks_memory_gets_advice(said: str, advised: str) -> None:
    advice = memory_advice(said, 96)
    assert advised in advice
    assert bool(advice) is bool(advised)
