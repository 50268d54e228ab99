"""Which accelerator works here: found out by booting a guest, once per start of the host.

That ``/dev/kvm`` exists proves nothing. On nested hosts it often opens, and creates virtual
machines whose kernels then hang; and QEMU's own ``accel=kvm:tcg`` neither fails nor falls back. So
a small guest is booted with a deadline, and the result kept until the host restarts or QEMU
changes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
from typing import TYPE_CHECKING

from filelock import FileLock

from core_infra._unpatched import Path, os
from core_infra.errors import CoreInfraError, InvalidError, UnavailableError
from core_infra.vm._cache import cache_root, places, writable
from core_infra.vm._hypervisors.hypervisor import Accelerator
from core_infra.vm._images.image import host_arch
from core_infra.vm._timeouts import scaled

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._hypervisors.hypervisor import DisposableHypervisor
    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine_spec import SpecResolver

    Probe = Callable[[str, float], str | None]

NAMES = ("auto", "kvm", "hvf", "tcg")

PROBE_TIMEOUT = 1.0
"""Seconds, before scaling, that the probe's guest may take: KVM boots it in a fraction."""

_KVM = Path("/dev/kvm")


class AcceleratorSelector:
    """Selects the accelerator for a launcher's machines.

    Args:
        requested: one of :data:`NAMES`.
        hypervisor: what runs the machines.
        resolver: has the images that can be booted to try an accelerator.
        probe: boots an image with an accelerator within some seconds; None, or why it failed.
        progress: called with a line before a probe starts.
    """

    def __init__(
        self,
        requested: str,
        hypervisor: DisposableHypervisor,
        resolver: SpecResolver,
        probe: Callable[[Bootable, str, float], str | None],
        progress: Callable[[str], None],
    ) -> None:
        self._requested = requested
        self._hypervisor = hypervisor
        self._resolver = resolver
        self._probe = probe
        self._progress = progress
        self._chosen: Accelerator | None = None

    def for_arch(self, arch: str) -> Accelerator:
        """The accelerator for machines of this architecture.

        Raises:
            InvalidError: the requested one does not exist.
            UnavailableError: the requested one does not work here.
        """
        if arch != host_arch():
            return foreign(self._requested, arch)
        if self._chosen is None:
            self._chosen = choose(
                self._requested,
                probe=lambda name, limit: self._probe(self._image, name, limit),
                identity=self._identity,
                cache_dir=cache_root(),
                progress=self._progress,
            )
        return self._chosen

    def emulation(self, arch: str) -> Accelerator:
        """Plain emulation, for a machine that needs it.

        Raises:
            UnavailableError: another one is required.
        """
        if self._requested not in ("auto", "tcg"):
            raise UnavailableError(
                f"cannot run a machine in virtual time with {self._requested}",
                why="QEMU counts instructions only when it emulates them",
                todo="Use the accelerator auto, or tcg.",
            )
        return Accelerator("tcg", f"virtual time, {arch}")

    def _identity(self) -> str:
        # The image counts, too: one that boots nowhere says nothing of the accelerator.
        return f"{self._hypervisor.name} {self._hypervisor.version()} {self._image}"

    @functools.cached_property
    def _image(self) -> Bootable:
        """What is booted to try an accelerator: the default image instead of a whole system."""
        image = self._resolver.trial_image
        if image.arch != host_arch():
            return self._resolver.default_image()
        if not image.has_agent:
            with contextlib.suppress(CoreInfraError):
                return self._resolver.default_image()
        return image


def choose(
    requested: str,
    *,
    probe: Probe,
    identity: Callable[[], str],
    cache_dir: Path,
    progress: Callable[[str], None],
) -> Accelerator:
    """The accelerator to use.

    Args:
        requested: one of :data:`NAMES`.
        probe: boots a guest with an accelerator within some seconds; None, or why it failed.
        identity: what else the result depends on, called only if a guest must be booted.
        cache_dir: where results are kept.
        progress: called with a line before a probe starts.

    Raises:
        InvalidError: *requested* is not one of :data:`NAMES`.
        UnavailableError: the requested one does not work here; says why.
    """
    _check(requested)
    if requested == "tcg":
        return Accelerator("tcg", "asked for")
    native = "hvf" if sys.platform == "darwin" else "kvm"
    wanted = native if requested == "auto" else requested
    why = obstacle(wanted, native) or _result(wanted, probe, identity, cache_dir, progress)
    if why is None:
        return Accelerator(wanted, f"{wanted} booted a guest")
    if requested == "auto":
        return Accelerator("tcg", f"no {wanted}: {why}")
    raise UnavailableError(
        f"the accelerator {requested} does not work on this host",
        why=why,
        todo="Ask for auto (or tcg), and machines are emulated.",
    )


def foreign(requested: str, arch: str) -> Accelerator:
    """The accelerator for machines of a foreign architecture: only emulation is possible.

    Raises:
        InvalidError: *requested* is not one of :data:`NAMES`.
        UnavailableError: another one is requested.
    """
    _check(requested)
    if requested in ("auto", "tcg"):
        return Accelerator("tcg", f"{arch} is not this host's architecture")
    raise UnavailableError(
        f"the accelerator {requested} does not work for {arch}",
        why="it runs only what this host's own processor can",
        todo="Ask for auto (or tcg), and machines are emulated.",
    )


def _check(requested: str) -> None:
    if requested not in NAMES:
        raise InvalidError(
            f"unknown accelerator {requested!r}", todo=f"Choose one of {', '.join(NAMES)}."
        )


def obstacle(wanted: str, native: str) -> str | None:
    """Why *wanted* cannot work, as far as that shows without booting anything."""
    if wanted != native:
        return f"this host's accelerator would be {native}"
    if wanted == "kvm":
        if not _KVM.exists():
            return f"there is no {_KVM}"
        if not os.access(_KVM, os.R_OK | os.W_OK):
            return f"{_KVM} is not readable and writable for this user (group kvm?)"
    return None


def _result(
    wanted: str,
    probe: Probe,
    identity: Callable[[], str],
    cache_dir: Path,
    progress: Callable[[str], None],
) -> str | None:
    start = _digest(_host_start())
    name = f"{wanted}-{start}-{_digest(identity())}.json"
    for place in places(cache_dir / "accelerators"):
        if (known := _remembered(place / name)) is not None:
            return known or None
    directory = writable(cache_dir / "accelerators")
    path = directory / name
    try:
        with FileLock(directory / f"{wanted}.lock"):  # parallel workers wait for one probe
            if (known := _remembered(path)) is None:
                known = _probed(wanted, probe, progress) or ""
                for old in directory.glob(f"{wanted}-*.json"):
                    if not old.name.startswith(f"{wanted}-{start}-"):  # of a former host start
                        old.unlink(missing_ok=True)
                temporary = path.with_suffix(".tmp")
                temporary.write_text(json.dumps({"why_not": known}))
                temporary.replace(path)
    except OSError as error:
        raise UnavailableError(
            f"cannot remember in {directory} whether {wanted} works",
            why=str(error),
            todo="Choose another place with CORE_INFRA_CACHE_DIR, or name an accelerator.",
        ) from error
    return known or None


def _probed(wanted: str, probe: Probe, progress: Callable[[str], None]) -> str | None:
    limit = scaled(PROBE_TIMEOUT)
    progress(f"trying {wanted}: booting a guest for up to {limit:.0f} s (once per host start)")
    return probe(wanted, limit)


def _remembered(path: Path) -> str | None:
    """The remembered reason against it ("" if it works); None if nothing usable is remembered."""
    try:
        return str(json.loads(path.read_text())["why_not"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _host_start() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
