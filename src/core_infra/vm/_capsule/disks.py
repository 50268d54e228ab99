"""The disks of machines in capsules: what they have written, and what they began as.

What a machine has written is a layer, which is always in the capsule. The image below it is there
only if it is small, or is asked for; otherwise the capsule says which file it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_infra._unpatched import Path
from core_infra.errors import CoreInfraError, NotFoundError
from core_infra.vm._cache import cache_root
from core_infra.vm._disks import file_name
from core_infra.vm._hardware import Disk
from core_infra.vm._images.disk_files import check_layer, disk_files
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.qemu_img import qemu_img

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._capsule.file import Capsule, CapsuleWriter
    from core_infra.vm._saved_cluster import SavedMachine

_SMALL = 4 << 20
"""Bytes of an image that is always in the capsule, such as that of an empty disk."""

_LARGEST = 1 << 40


_LARGEST_BASE = 256 << 20
"""Bytes of a layer that those of earlier moments are stored as differences to."""


def add_disks(
    writer: CapsuleWriter,
    prefix: str,
    machine: SavedMachine,
    work: Path,
    *,
    whole: bool,
    is_base: bool = False,
    later: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Add the disks of a machine; return what :func:`extract_disks` needs, in types of JSON.

    Args:
        writer: writes the capsule.
        prefix: what the names of members begin with.
        machine: the machine.
        work: an empty directory for temporary files.
        whole: with the images below, whatever their size.
        is_base: those of earlier moments follow.
        later: what this has returned of the same disks at a later moment.

    Raises:
        CoreInfraError: they cannot be read, or there is no room for them.
    """
    if machine.spec.disks:
        machine.source.save_disks(work)
    records = []
    for number, disk in enumerate(machine.spec.disks):
        member, layer = f"{prefix}/disk{number}", work / file_name(number)
        if later:
            record = dict(later[number])
            over = record.get("layer")
        else:
            record, over = _add_image(writer, member, disk, layer, whole=whole), None
        if not disk.read_only:
            record["layer"] = f"{member}/layer"
            keep = is_base and layer.stat().st_size <= _LARGEST_BASE
            writer.add_file(record["layer"], layer, is_base=keep, over=over)
        records.append(record)
    return records


def _add_image(
    writer: CapsuleWriter, member: str, disk: Disk, layer: Path, *, whole: bool
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "format": str(disk.format),
        "read_only": disk.read_only,
        "boot": disk.boot,
        "disc": disk.disc,
    }
    files = disk_files(disk.path, ImageFormat(disk.format))
    if len(files) == 1 and (whole or disk.path.stat().st_size <= _SMALL):
        writer.add_file(f"{member}/base", disk.path)
        record["base"] = f"{member}/base"
    elif whole:
        one = layer.with_name("one.qcow2")
        qemu_img(disk.path, "convert", "-f", disk.format, "-O", "qcow2", str(disk.path), str(one))
        writer.add_file(f"{member}/base", one)
        one.unlink()
        record |= {"base": f"{member}/base", "format": str(ImageFormat.QCOW2)}
    else:
        cache = cache_root()
        inside = disk.path.is_relative_to(cache)
        record["path"] = str(disk.path)
        record["in_cache"] = str(disk.path.relative_to(cache)) if inside else ""
        record["stamps"] = _stamps(disk.path, disk.format)
    return record


def extract_disks(
    capsule: Capsule, machine: str, records: Sequence[dict[str, Any]], directory: Path
) -> tuple[Disk, ...]:
    """Write the layers of a machine to its *directory*; return what its disks began as.

    Args:
        capsule: the capsule.
        machine: the machine's name.
        records: what :func:`add_disks` has returned.
        directory: where the files go.

    Raises:
        NotFoundError: an image that is not in the capsule is not on this host, or has changed.
        InvalidError: the capsule is damaged.
    """
    bases = []
    for number, record in enumerate(records):
        base = _base(capsule, machine, record, directory / f"base{number}")
        bases.append(base)
        if not base.read_only:
            layer = directory / file_name(number)
            capsule.extract(record["layer"], layer, limit=_LARGEST)
            check_layer(layer)
            # -u: it is over the same content, by another name.
            arguments = ("-u", "-f", "qcow2", "-F", base.format, "-b", str(base.path), str(layer))
            qemu_img(layer, "rebase", *arguments)
    return tuple(bases)


def _base(capsule: Capsule, machine: str, record: dict[str, Any], target: Path) -> Disk:
    format_ = ImageFormat(record["format"])
    if "base" in record:
        path = target.with_suffix(f".{format_}")
        capsule.extract(record["base"], path, limit=_LARGEST)
        disk_files(path, format_, alone=True)
    else:
        path = _found(machine, record)
    return Disk(
        path,
        format_,
        read_only=bool(record["read_only"]),
        boot=bool(record["boot"]),
        disc=bool(record["disc"]),
    )


def _found(machine: str, record: dict[str, Any]) -> Path:
    """The file of this host that an image is."""
    named = Path(str(record["path"]))
    inside = str(record["in_cache"])
    places = [named, *([cache_root() / inside] if inside else [])]
    for path in places:
        try:
            if _stamps(path, record["format"]) == record["stamps"]:
                return path
        except (OSError, CoreInfraError):
            continue
    exists = any(path.exists() for path in places)
    raise NotFoundError(
        f"cannot wake {machine}: the image {named} of its disk is not on this host",
        why="it has changed since"
        if exists
        else "only what the machine has written is in the capsule",
        todo="Copy it there with its time (cp -p), or make capsules with --core-vm-trace-disks, "
        "which have it.",
    )


def _stamps(path: Path, format_: str) -> list[list[int]]:
    """The size and the time of each file of an image, which identify its content."""
    return [list(map(int, file.stamp[2:])) for file in disk_files(path, ImageFormat(format_))]
