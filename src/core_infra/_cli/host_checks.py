"""What ``core-infra doctor`` looks at: each part of the host, who needs it, and its remedy.

The checks read, and change nothing: no image is built, nothing is downloaded.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from packaging.requirements import Requirement
from rich.filesize import decimal

from core_infra._binaries import BINARIES, agent_binary
from core_infra.errors import CoreInfraError
from core_infra.vm._cache import cache_root
from core_infra.vm._free_space import free
from core_infra.vm._hypervisors import fork_server
from core_infra.vm._hypervisors.accelerator import obstacle
from core_infra.vm._hypervisors.qemu import PACKAGES, QemuHypervisor
from core_infra.vm._hypervisors.qemu_arguments import UEFI, firmware
from core_infra.vm._images.cached import KERNEL_AND_INITRD, stored_images
from core_infra.vm._images.debian.sources import KEYRINGS
from core_infra.vm._images.image import host_arch
from core_infra.vm._manager.volumes import can_serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOM = 2 << 30
"""Bytes: the cache with the default image, its snapshots and an image of a distribution."""

_RUN_ROOM = 512 << 20
EXTRAS = {
    "app": "core-infra jobs with the token of a GitHub App",
    "build": "core-infra build and release",
    "dask": "tasks on a Dask cluster",
    "jobs": "core-infra jobs with GitHub or Forgejo",
    "metrics": "core-infra jobs run --metrics-port",
    "nox": "core_infra.sessions",
    "postgresql": "core-infra jobs on several hosts",
    "publish": "core-infra release --publish",
    "pyfakefs": "core_medium_fs",
    "sigstore": "signatures by sigstore",
    "ssh": "disks with cloud-init, and machines without the agent",
    "testinfra": "machine.testinfra()",
    "testing": "the contract tests of core_infra.testing",
    "watch": "core-infra run --watch",
}
"""What each optional dependency of this package is for."""

_MACHINES = "machines"
_OPTIONS = "options"
_EXTRAS = "extras"


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    MISSING = "missing"
    """Only what *needed for* names does not work."""
    BROKEN = "broken"
    """No machine can run."""


class Finding(NamedTuple):
    """The result of a check.

    Attributes:
        group: the part of the host: machines, options, extras.
        name: what was looked at.
        state: the result.
        detail: what was found; or why it does not work.
        needed_for: what does not work without it; empty if no machine does.
        remedy: a command or a sentence that mends it; empty if it works.
    """

    group: str
    name: str
    state: State
    detail: str
    needed_for: str = ""
    remedy: str = ""


def look_at_host() -> Iterator[Finding]:
    """Yield what each check finds: what every machine needs, then options and extras."""
    yield _python()
    yield _qemu()
    yield _acceleration()
    yield _programs()
    yield _forks()
    yield _image()
    yield _room("cache", cache_root(), ROOM, "CORE_INFRA_CACHE_DIR")
    yield _room("temporary files", Path(tempfile.gettempdir()), _RUN_ROOM, "TMPDIR")
    yield from _options()
    yield from _extras()


def _python() -> Finding:
    version = importlib.metadata.version("core-infra")
    detail = f"{version}, Python {platform.python_version()}, {platform.platform(terse=True)}"
    if sys.platform == "linux":
        return Finding(_MACHINES, "core-infra", State.OK, detail)
    return Finding(
        _MACHINES, "core-infra", State.BROKEN, detail, remedy="Use a Linux host: x86-64 or ARM64."
    )


def _qemu() -> Finding:
    qemu = QemuHypervisor()
    return _tried("QEMU", lambda: f"{_version(qemu)}, {qemu.program(host_arch())}")


def _version(qemu: QemuHypervisor) -> str:
    qemu.program(host_arch())  # another architecture's emulator has a version, too
    return qemu.version()


def _acceleration() -> Finding:
    why_not = obstacle("kvm", "kvm")
    if why_not is None:
        detail = "/dev/kvm can be opened; the first run tries it, and falls back to emulation"
    else:
        detail = f"emulation, as {why_not}; clones are ready in a fraction of a second all the same"
    return Finding(_MACHINES, "acceleration", State.OK, detail)


def _programs() -> Finding:
    arch = host_arch()

    def look() -> str:
        agent_binary(arch)
        names = sorted(path.name for path in BINARIES.glob(f"[a-z]*-{arch}*"))
        return ", ".join(name.split("-")[0] for name in names)

    return _tried("compiled programs", look)


def _forks() -> Finding:
    name = "fork server"
    why = fork_server.why_not()
    if why is None:
        return Finding(_MACHINES, name, State.OK, "clones are forks of a running QEMU")
    return Finding(
        _MACHINES,
        name,
        State.MISSING,
        why.why or why.what,
        "clones in milliseconds: they are restored from a snapshot instead, which takes seconds",
        why.todo,
    )


def _image() -> Finding:
    name = "default image"
    built = [one for one in stored_images(cache_root()) if one.kind == KERNEL_AND_INITRD]
    if built:
        return Finding(_MACHINES, name, State.OK, f"{built[0].name} is built")
    missing = [one for one in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(one) is None]
    if not missing:
        detail = "not built yet; the first run builds it from packages that apt gets"
        return Finding(_MACHINES, name, State.OK, detail)
    return Finding(
        _MACHINES,
        name,
        State.MISSING,
        f"it is made of Debian or Ubuntu packages, and {missing[0]} is not on PATH",
        "machines without an image of their own",
        "Pass an image: pytest --core-vm --core-vm-image=PATH",
    )


def _room(name: str, place: Path, enough: int, variable: str) -> Finding:
    existing = next(path for path in (place, *place.parents) if path.exists())
    remedy = f"Choose another place: export {variable}=DIRECTORY"
    try:
        with tempfile.TemporaryFile(dir=existing):  # has no name, so that nothing is left
            pass
    except OSError as error:
        detail = f"{existing} cannot be written: {error.strerror}"
        return Finding(_MACHINES, name, State.BROKEN, detail, remedy=remedy)
    room = free(existing)
    detail = f"{place}, {decimal(room)} free"
    if room >= enough:
        return Finding(_MACHINES, name, State.OK, detail)
    needed = f"room: {decimal(enough)} are enough for a start"
    return Finding(_MACHINES, name, State.MISSING, detail, needed, remedy)


def _options() -> Iterator[Finding]:
    host = host_arch()
    for arch, package in PACKAGES.items():
        if arch != host:
            program = f"qemu-system-{arch}"
            yield _program(program, package, f"machines of another processor: arch={arch!r}")
    if shutil.which("qemu-system-aarch64") and not any(firmware(one, "aarch64") for one in UEFI):
        yield _missing("UEFI for aarch64", "qemu-efi-aarch64", "disks of aarch64 systems")
    yield _program("qemu-img", "qemu-utils", "disks: disks=[…], images in qcow2, vmdk, vdi, vhd")
    yield _program("ssh", "openssh-client", "core-infra vm shell by SSH, machine.ssh()")
    shared = "directories in a machine: core-infra vm run -v"
    if can_serve():
        yield Finding(_OPTIONS, "virtiofsd", State.OK, "works for this user", shared)
    else:
        yield _missing("virtiofsd", "virtiofsd", shared)
    for distribution, (keyring, package) in KEYRINGS.items():
        needed = f"packages of {distribution}'s releases: suite=…, image=…"
        if Path(keyring).is_file():
            yield Finding(_OPTIONS, f"{distribution} keys", State.OK, keyring, needed)
        else:
            yield _missing(f"{distribution} keys", package, needed)
    yield _program("git", "git", "builds and releases of projects in git")


def _program(name: str, package: str, needed: str) -> Finding:
    found = shutil.which(name)
    if found is None:
        return _missing(name, package, needed)
    return Finding(_OPTIONS, name, State.OK, found, needed)


def _missing(name: str, package: str, needed: str) -> Finding:
    remedy = f"apt-get install {package}"
    return Finding(_OPTIONS, name, State.MISSING, "not installed", needed, remedy)


def _extras() -> Iterator[Finding]:
    distribution = importlib.metadata.distribution("core-infra")
    wanted = [Requirement(line) for line in distribution.requires or ()]
    for extra in distribution.metadata.get_all("Provides-Extra") or ():
        own = [
            one
            for one in wanted
            if one.marker
            and one.marker.evaluate({"extra": extra})
            and not one.marker.evaluate({"extra": ""})
        ]
        missing = sorted(one.name for one in own if not _is_installed(one))
        needed = EXTRAS[extra]
        if missing:
            detail = f"not installed: {', '.join(missing)}"
            remedy = f"pip install 'core-infra[{extra}]'"
            yield Finding(_EXTRAS, extra, State.MISSING, detail, needed, remedy)
        else:
            yield Finding(_EXTRAS, extra, State.OK, ", ".join(one.name for one in own), needed)


def _is_installed(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def _tried(name: str, look: Callable[[], str]) -> Finding:
    """A check of what no machine runs without: it works, or raises an error."""
    try:
        return Finding(_MACHINES, name, State.OK, look())
    except CoreInfraError as error:
        detail = f"{error.what}: {error.why}" if error.why else error.what
        return Finding(_MACHINES, name, State.BROKEN, detail, remedy=error.todo)
