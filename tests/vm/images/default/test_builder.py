"""The default image: built from a small repository of our own, kept, and rebuilt when damaged."""

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import filelock
import pytest

from core_infra.errors import (
    CoreInfraError,
    InvalidError,
    NotFoundError,
    TimeoutExpiredError,
    UnavailableError,
)
from core_infra.vm._images import programs
from core_infra.vm._images.default import builder
from core_infra.vm._images.default.image import default_image
from core_infra.vm._images.default.recipe import Recipe
from core_infra.vm._images.image import Image
from core_infra.vm._images.kernel_set import load_kernel_set
from kernel_packages import PACKERS, Repository, busybox, bzimage, elf_kernel, module, read_cpio

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="this host has no apt")

BUILD_IMAGE = Path(__file__).parent / "programs" / "build_image.py"
RECIPE = Recipe(arch="x86_64", distributions=("debian",), version="12", agent=b"the agent")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    (tmp_path / "repository").mkdir()
    repository = Repository(tmp_path / "repository")
    monkeypatch.setenv("APT_CONFIG", str(repository.config))
    return repository


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "images" / "default-x86_64-0"


def build(target: Path, lines: list[str] | None = None) -> Image:
    return builder.build(RECIPE, target, (lines if lines is not None else []).append)


def test_it_holds_the_unpacked_kernel_and_a_root_with_agent_busybox_and_modules(
    repository: Repository, target: Path, lines: list[str]
) -> None:
    repository.add_guest()
    image = build(target, lines)
    assert image.kernel.read_bytes() == elf_kernel(b"x" * 5000)
    assert image.initrd is not None
    root = {member.name: member for member in read_cpio(image.initrd.read_bytes())}
    assert root["usr/bin/core-infra-agent"].data == b"the agent"
    assert root["usr/bin/core-infra-agent"].mode == stat.S_IFREG | 0o755
    assert root["usr/bin/mount"].data == b"busybox"
    assert root["etc/init.d/rcS"].mode == stat.S_IFREG | 0o755
    assert b"\nttyS0::respawn" in root["etc/inittab"].data
    modules = "usr/lib/modules/9.9.9-cloud-amd64"
    assert f"{modules}/kernel/virtio.ko" in root
    assert b"kernel/virtio-rng.ko: kernel/virtio.ko\n" in root[f"{modules}/modules.dep"].data
    boot = root["usr/lib/modules/boot"].data.decode().split()
    assert boot == ["virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "virtio_rng"]
    assert (image.arch, image.console, image.has_agent) == ("x86_64", "ttyS0", True)
    assert "9.9.9" in image.name
    assert any("downloading linux-image-9.9.9-cloud-amd64 1:1.0 (" in line for line in lines)


def test_the_record_tells_what_it_was_made_of(repository: Repository, target: Path) -> None:
    repository.add_guest()
    build(target)
    record = json.loads((target / "manifest.json").read_text())
    assert {package["name"]: package["version"] for package in record["packages"]} == {
        "linux-image-cloud-amd64": "1:1.0",
        "linux-image-9.9.9-cloud-amd64": "1:1.0",
        "busybox-static": "1:1.0",
    }
    assert all(len(package["sha256"]) == 64 for package in record["packages"])
    assert record["outputs"]["kernel"]["size"] == (target / "kernel").stat().st_size
    assert load_kernel_set(target) == build(target)


def test_a_finished_image_needs_no_apt(
    repository: Repository, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.add_guest()
    first = build(target)
    monkeypatch.setenv("PATH", "/nowhere")
    assert build(target) == first


@pytest.mark.parametrize("name", ["kernel", "initrd", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_damaged_image_is_built_again_without_downloading_again(
    repository: Repository, target: Path, name: str, damage: str, lines: list[str]
) -> None:
    repository.add_guest()
    build(target)
    if damage == "missing":
        (target / name).unlink()
    else:
        os.truncate(target / name, 7)
    build(target, lines)
    assert (target / "kernel").read_bytes() == elf_kernel(b"x" * 5000)
    assert lines == ["building the guest image"]


def test_what_a_killed_build_left_and_old_images_are_swept_and_others_are_not(
    repository: Repository, target: Path
) -> None:
    repository.add_guest()
    left = target.parent / ".building-abc"
    (left / "unpacked").mkdir(parents=True)
    (target.parent / "default-x86_64-other").mkdir()
    (target.parent / "default-x86_64-unused").mkdir()
    os.utime(target.parent / "default-x86_64-unused", (0, 0))
    build(target)
    names = {path.name for path in target.parent.iterdir() if path.name != ".lock"}
    assert names == {target.name, "default-x86_64-other"}


def test_a_build_that_fails_leaves_nothing(repository: Repository, target: Path) -> None:
    repository.add_guest()
    repository.add("busybox-static", {"bin/busybox": b"none"}, version="2:0")
    with pytest.raises(InvalidError, match="not a busybox"):
        build(target)
    assert [path.name for path in target.parent.iterdir() if path.name != ".lock"] == []


def test_a_package_with_two_kernels_is_refused(repository: Repository, target: Path) -> None:
    repository.add_guest()
    repository.add("busybox-static", {"boot/vmlinuz-1": b"1"}, version="2:0")
    with pytest.raises(InvalidError, match="2 files match boot/vmlinu"):
        build(target)


@pytest.mark.parametrize(
    ("long_options", "taken"),
    [
        (b"\0\0timeout\0\0\0user-agent\0\1Utries\0\1t", b"\1"),  # nslookup's, as in Debian 12
        (b"\0\0timeout\0\0\0user-agent\0\1Utimeout\0\1Ttries\0\1t", b"T"),
    ],
)
def test_wget_has_a_timeout_only_if_it_was_built_with_it(
    repository: Repository, target: Path, long_options: bytes, taken: bytes
) -> None:
    repository.add_guest()
    program = busybox() + b"\0^cqSO:o:P:Y:U:T:+t:n::" + long_options
    repository.add("busybox-static", {"bin/busybox": program}, version="2:0")
    initrd = build(target).initrd
    assert initrd is not None
    (found,) = (one for one in read_cpio(initrd.read_bytes()) if one.name == "usr/bin/busybox")
    assert found.data == program.replace(b":U:T:", b":U:" + taken + b":")


def test_a_package_that_was_changed_on_its_way_is_refused(
    repository: Repository, target: Path
) -> None:
    repository.add_guest()
    deb = repository.root / "pool" / "busybox-static-1.deb"
    data = bytearray(deb.read_bytes())
    data[-600] ^= 1
    deb.write_bytes(data)
    with pytest.raises(CoreInfraError, match=r"Hash Sum mismatch|differs from its index"):
        build(target)


def test_a_package_file_that_was_damaged_here_is_downloaded_again(
    repository: Repository, target: Path, lines: list[str]
) -> None:
    repository.add_guest()
    build(target)
    [deb] = (target.parent.parent / "packages" / "x86_64").glob("busybox-static_*.deb")
    data = bytearray(deb.read_bytes())
    data[-600] ^= 1
    deb.write_bytes(data)
    shutil.rmtree(target)
    build(target, lines)
    assert any("downloading busybox-static" in line for line in lines)


def test_a_newer_package_takes_the_place_of_the_old_one(
    repository: Repository, target: Path
) -> None:
    repository.add_guest()
    build(target)
    repository.add("busybox-static", {"bin/busybox": busybox()}, version="2:0")
    shutil.rmtree(target)
    shutil.rmtree(target.parent.parent / "apt")
    build(target)
    [deb] = (target.parent.parent / "packages").rglob("busybox-static_*.deb")
    assert "2%3a0" in deb.name


def test_an_ubuntu_kernel_has_its_modules_apart_and_drivers_built_in(
    repository: Repository, target: Path
) -> None:
    release = "6.8.0-31-generic"
    modules = f"usr/lib/modules/{release}"
    image, extra = f"linux-image-{release}", f"linux-modules-{release}"
    kernel = elf_kernel(b"u")
    repository.add("linux-image-virtual", {}, depends=f"{image}, intel-microcode")
    vmlinuz = bzimage(PACKERS["zstd"](kernel), len(kernel))
    repository.add(image, {f"boot/vmlinuz-{release}": vmlinuz}, depends=f"kmod, {extra}")
    drivers = ("virtio_pci", "virtio_console", "virtio_net", "virtio_blk")
    builtin = "".join(f"kernel/{name}.ko\n" for name in drivers).encode()
    files = {
        f"{modules}/modules.builtin": builtin,
        f"{modules}/kernel/virtio-rng.ko.zst": PACKERS["zstd"](module()),
    }
    repository.add(extra, files)
    repository.add("busybox-static", {"usr/bin/busybox": busybox()})
    built = builder.build(replace(RECIPE, distributions=("ubuntu", "debian")), target, print)
    assert built.kernel.read_bytes() == kernel
    assert built.initrd is not None
    root = {member.name: member for member in read_cpio(built.initrd.read_bytes())}
    assert root["usr/lib/modules/boot"].data == b"virtio_rng\n"
    assert root[f"{modules}/kernel/virtio-rng.ko"].data == module()


def test_an_unknown_package_is_named_with_what_to_do(repository: Repository, target: Path) -> None:
    repository.add("busybox-static", {})
    with pytest.raises(NotFoundError, match="linux-image-cloud-amd64") as caught:
        build(target)
    assert "--core-vm-image" in caught.value.todo


def test_a_repository_that_nobody_signed_is_not_used(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path, trusted=False)
    monkeypatch.setenv("APT_CONFIG", str(repository.config))
    repository.add_guest()
    with pytest.raises(NotFoundError, match="linux-image-cloud-amd64"):
        build(target)
    assert not list((target.parent.parent / "packages").rglob("*.deb"))


def test_no_network_is_told_apart(
    repository: Repository, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = repository.root / "sources.list"
    sources.write_text("deb [trusted=yes] http://127.0.0.1:1/ ./\n")
    monkeypatch.delenv("http_proxy", raising=False)
    with pytest.raises(UnavailableError, match="can't be downloaded: no connection"):
        build(target)


def test_without_apt_the_error_says_what_to_pass(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError, match="apt-cache is not on PATH") as caught:
        build(target)
    assert "--core-vm-image=NAME" in caught.value.todo


def test_an_unknown_distribution_or_architecture_is_named() -> None:
    fedora = Recipe("x86_64", ("fedora",), "40", b"")
    with pytest.raises(UnavailableError, match="x86_64 on fedora"):
        builder.kernel_package(fedora)
    with pytest.raises(UnavailableError, match="riscv64 on debian"):
        builder.kernel_package(Recipe("riscv64", ("debian",), "12", b""))
    mint = Recipe("aarch64", ("linuxmint", "ubuntu", "debian"), "22", b"")
    assert builder.kernel_package(mint) == "linux-image-virtual"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file")
    with pytest.raises(UnavailableError, match=r"can't be built in .*images"):
        build(tmp_path / "images" / "x")


def test_another_process_that_builds_is_waited_for(
    repository: Repository, target: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.add_guest()
    monkeypatch.setattr(builder, "_PATIENCE", 0.01)
    target.parent.mkdir(parents=True)
    with (
        filelock.FileLock(target.parent / ".lock"),
        pytest.raises(TimeoutExpiredError, match=r"\.lock"),
    ):
        build(target, lines)
    assert lines == ["waiting for another process that builds the guest image"]
    build(target)


def test_processes_that_ask_at_once_build_once(repository: Repository, target: Path) -> None:
    repository.add_guest()
    command: list[str | Path] = [sys.executable, BUILD_IMAGE, target]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(output.count("building the guest image") for output in outputs) == 1


def test_the_key_follows_everything_that_the_image_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root")
    recipe = Recipe("x86_64", ("debian",), "12", b"agent", tmp_path)
    keys = {
        recipe.key,
        Recipe("aarch64", ("debian",), "12", b"agent", tmp_path).key,
        Recipe("x86_64", ("ubuntu",), "12", b"agent", tmp_path).key,
        Recipe("x86_64", ("debian",), "13", b"agent", tmp_path).key,
        Recipe("x86_64", ("debian",), "12", b"agent2", tmp_path).key,
    }
    (tmp_path / "etc" / "passwd").write_text("toor")
    keys.add(recipe.key)
    (tmp_path / "etc" / "passwd").rename(tmp_path / "etc" / "group")
    keys.add(recipe.key)
    assert len(keys) == 7


def test_the_default_image_is_found_where_it_was_built(
    repository: Repository, tmp_path: Path, lines: list[str]
) -> None:
    repository.add_guest()
    first = default_image("x86_64", cache_dir=tmp_path / "c", progress=lines.append)
    assert lines[-1] == "building the guest image"
    lines.clear()
    assert default_image("x86_64", cache_dir=tmp_path / "c", progress=lines.append) == first
    assert lines == []


def test_a_program_that_never_ends_is_ended() -> None:
    with pytest.raises(TimeoutExpiredError, match=r"sleep did not end within 0\.05 s"):
        programs.run(["sleep", "60"], timeout=0.05)
