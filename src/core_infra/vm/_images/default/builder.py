"""Builds the default guest image."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra._host import SHORT_NAMES
from core_infra._unpatched import time
from core_infra.errors import (
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from core_infra.vm._cache import locked
from core_infra.vm._images.default import apt
from core_infra.vm._images.default.kernel import unwrap
from core_infra.vm._images.default.modules import ModuleTree
from core_infra.vm._images.default.recipe import PREFIX
from core_infra.vm._images.default.root_filesystem import guest_root
from core_infra.vm._images.image import CONSOLES
from core_infra.vm._images.initrd import cpio
from core_infra.vm._images.kernel_set import built_image
from core_infra.vm._images.manifest import INITRD, KERNEL, MANIFEST, write_manifest
from core_infra.vm._images.programs import USE_OWN_IMAGE, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._images.default.recipe import Recipe
    from core_infra.vm._images.image import Image

_KERNEL_PACKAGE = {"debian": "linux-image-cloud-{arch}", "ubuntu": "linux-image-virtual"}
_KERNEL = re.compile(r"linux-image-[0-9]")  # not the meta package
_KERNEL_FILES = ("boot/vmlinu[xz]-*", "usr/lib/modules/*/vmlinuz")
_UNFINISHED = ".building-"
_PATIENCE = 900  # seconds that another process may take to build the image
_UNUSED = 30 * 24 * 3600  # seconds; each upgrade of core-infra or of the host makes a new image

# tsc=reliable: on a busy host, the guest's watchdog would replace a good clock by a slow one.
# panic=-1: after a panic the machine restarts at once, which we notice and turn into its end. The
# rest is for emulated guests. init_on_alloc=0: clearing each page that is handed out costs about a
# tenth of every program that starts. noautogroup: so does a scheduling group for each session.
# lsm=, psi=0: kernel code that does not run need not be translated again in every clone.
# norandmaps: QEMU's translation of a program is for the addresses that the program had; at random
# addresses, dynamic programs are translated again at each start, which takes six times as long.
# compaction_proactiveness=0: the kernel would look for fragments of memory twice a second, which is
# most of what an idle guest does. A request for a large block still compacts.
# watchdog_thresh=60, the most: the kernel looks for soft lockups each 24 s and reports them after
# two minutes. Under emulation, on a busy host, the usual 20 s are no lockup; and with the usual 10,
# the watchdog is two fifths of what an idle guest does.
_COMMON = (
    "panic=-1 random.trust_cpu=on init_on_alloc=0 noautogroup lsm= psi=0 norandmaps "
    "sysctl.vm.compaction_proactiveness=0 watchdog_thresh=60"
)
_CMDLINE = {"x86_64": f"tsc=reliable reboot=t {_COMMON}", "aarch64": _COMMON}


def build(recipe: Recipe, target: Path, progress: Callable[[str], None]) -> Image:
    """Build the image into the directory ``target``, unless another process just did.

    Raises:
        CoreInfraError: as ``default_image`` says.
    """
    images = target.parent
    try:
        images.mkdir(parents=True, exist_ok=True)
        with locked(images / ".lock", "builds the guest image", progress, timeout=_PATIENCE):
            try:
                return built_image(target)
            except (NotFoundError, InvalidError):
                _clean(target)
            with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=images) as work:
                packages = _fetch(recipe, images.parent, progress)
                progress("building the guest image")
                _make(recipe, packages, Path(work)).rename(target)
            return built_image(target)
    except OSError as error:
        raise UnavailableError(
            f"The default guest image can't be built in {images}",
            why=str(error),
            todo="Make room, or choose another place with CORE_INFRA_CACHE_DIR.",
        ) from error


def kernel_package(recipe: Recipe) -> str:
    """The name of the meta package of the newest small kernel.

    Raises:
        UnavailableError: none is known for this distribution or architecture.
    """
    for name in recipe.distributions:
        if name in _KERNEL_PACKAGE and recipe.arch in SHORT_NAMES:
            return _KERNEL_PACKAGE[name].format(arch=SHORT_NAMES[recipe.arch])
    raise UnavailableError(
        f"There is no default guest image for {recipe.arch} on {recipe.distributions[0]}",
        why=f"known are {', '.join(SHORT_NAMES)} on {', '.join(_KERNEL_PACKAGE)}",
        todo=USE_OWN_IMAGE,
    )


def packed_kernel(
    image: Image, cache_dir: Path, work: Path, progress: Callable[[str], None]
) -> Path:
    """The kernel of a default image as its package has it, for boot loaders.

    Args:
        image: the default image.
        cache_dir: the cache that has its packages.
        work: a directory that is made, and must stay while the result is used.
        progress: called with a line of text before anything slow.

    Raises:
        UnavailableError: the package cannot be had.
        InvalidError: apt has another version of it by now.
    """
    directory = image.kernel.parent
    packages = json.loads((directory / MANIFEST).read_bytes())["packages"]
    versions = {one["name"]: one["version"] for one in packages}
    (name,) = (one for one in versions if _KERNEL.match(one))
    found = apt.fetch(
        [name],
        SHORT_NAMES[image.arch],
        directory=cache_dir / "packages" / image.arch,
        state=cache_dir / "apt" / image.arch,
        progress=progress,
    )
    for package, path in found.items():
        if package.version != versions.get(package.name, package.version):
            raise InvalidError(
                f"the default image has {package.name} {versions[package.name]}",
                why=f"apt has {package.version} by now",
                todo=f"Remove {directory}; the next run makes the image again.",
            )
        run(["dpkg-deb", "--extract", str(path), str(work)])
    return _only(work, *_KERNEL_FILES)


def _fetch(
    recipe: Recipe, cache_dir: Path, progress: Callable[[str], None]
) -> dict[apt.Package, Path]:
    directory = cache_dir / "packages" / recipe.arch
    packages = apt.fetch(
        [kernel_package(recipe), "busybox-static"],
        SHORT_NAMES[recipe.arch],
        directory=directory,
        state=cache_dir / "apt" / recipe.arch,
        progress=progress,
    )
    for outdated in set(directory.iterdir()) - set(packages.values()):
        outdated.unlink()
    return packages


def _make(recipe: Recipe, packages: dict[apt.Package, Path], work: Path) -> Path:
    unpacked = work / "unpacked"
    for deb in packages.values():
        run(["dpkg-deb", "--extract", str(deb), str(unpacked)])
    kernel = _only(unpacked, *_KERNEL_FILES)
    modules = ModuleTree(_only(unpacked, "lib/modules/*", "usr/lib/modules/*"))
    busybox = _only(unpacked, "bin/busybox", "usr/bin/busybox").read_bytes()
    console = CONSOLES[recipe.arch]
    root = guest_root(recipe.rootfs, busybox, recipe.agent, modules, console=console)
    result = work / "image"
    result.mkdir()
    (result / KERNEL).write_bytes(unwrap(kernel.read_bytes()))
    (result / INITRD).write_bytes(cpio(root))
    write_manifest(
        result,
        image={
            "cmdline": f"console={console} {_CMDLINE[recipe.arch]}",
            "arch": recipe.arch,
            "name": f"default (Linux {modules.release})",
            "has_agent": True,
            "console": console,
        },
        packages=[
            {"name": item.name, "version": item.version, "sha256": item.sha256} for item in packages
        ],
    )
    return result


def _only(root: Path, *patterns: str) -> Path:
    found = [path for pattern in patterns for path in root.glob(pattern)]
    if len(found) != 1:
        raise InvalidError(
            "The packages have an unknown layout",
            why=f"{len(found)} files match {' or '.join(patterns)}, not one",
            todo=USE_OWN_IMAGE,
        )
    return found[0]


def _clean(target: Path) -> None:
    """Remove what killed builds left, a damaged image, and old ones. Only with the lock held."""
    old = time.time() - _UNUSED
    for path in target.parent.glob(f"{PREFIX}*"):
        if path == target or path.stat().st_mtime < old:
            shutil.rmtree(path)
    for left in target.parent.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left)
