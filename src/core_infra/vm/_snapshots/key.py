"""The key of a snapshot: a digest of all that it is made from."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING

from core_infra._unpatched import Path
from core_infra.vm._disks import stamps
from core_infra.vm._images.image import Bootable, DiskImage
from core_infra.vm._snapshots.snapshot import FORMAT
from core_infra.vm._vmm_launch import FileGoneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._hypervisors.hypervisor import DisposableHypervisor
    from core_infra.vm._machine_spec import MachineSpec

_BOOTED = ("-kernel", "-initrd", "-append")


def snapshot_key(
    hypervisor: DisposableHypervisor, spec: MachineSpec, accelerator: str, *more: str
) -> str:
    """The key of the snapshot of *spec* on this host.

    Args:
        hypervisor: its program, version and command line count.
        spec: its image, memory and cpus count; its name does not.
        accelerator: it counts, and for all but plain emulation the host's processor.
        more: more parts that count.
    """
    program = hypervisor.program(spec.image.arch)
    status = program.stat()
    command = hypervisor.command_line(
        spec, accelerator, monitor=0, console=0, agent=0, cards=[0] * spec.cards, incoming=True
    )
    parts = [
        FORMAT,
        hypervisor.version(),
        [str(program), status.st_size, status.st_mtime_ns],
        _lasting(command, spec.name),
        _contents(spec.image),
        [stamps(disk) for disk in spec.disks],
        _processor(),
        more,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _lasting(command: Sequence[str], name: str) -> list[str]:
    """What counts of a command: not the machine's name, nor what it boots.

    The kernel's arguments have the host's clock rate, which varies; its files count by content, and
    may have been removed meanwhile.
    """
    pairs = zip(["", *command], command, strict=False)
    return [part for before, part in pairs if part != name and not {before, part} & {*_BOOTED}]


def _contents(image: Bootable) -> list[str]:
    if isinstance(image, DiskImage):
        return []
    found = [image.kernel, *([image.initrd] if image.initrd else ())]
    return [image.cmdline, *map(_digest, found)]


def _digest(path: Path) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:
        if path in _known:  # removed meanwhile: a source that exists does not need it
            return _known[path]
        raise FileGoneError(f"the image has no file {path} any more") from None
    _known[path] = _digest_of(path, status.st_size, status.st_mtime_ns)
    return _known[path]


_known: dict[Path, str] = {}


@functools.lru_cache(maxsize=64)  # read once in each run, not for each machine
def _digest_of(path: Path, _size: int, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    fields = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "CPU part")
    found = [re.search(rf"^{name}\s*:.*$", text, re.MULTILINE) for name in fields]
    return "\n".join(match[0] for match in found if match)
