"""The record beside a built image: its packages, and the sizes and digests of its files."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
KERNEL = "kernel"
INITRD = "initrd"
DISK = "disk.raw"


def write_manifest(
    directory: Path, *, image: dict[str, Any], packages: list[dict[str, str]]
) -> None:
    """Record the image whose files ``kernel`` and ``initrd`` are in ``directory``.

    Args:
        directory: the image's.
        image: the fields of ``Image`` other than the files.
        packages: name, version and sha256 of each package in it.
    """
    outputs = {name: _facts(directory / name) for name in (KERNEL, INITRD)}
    record = {"format": 1, "image": image, "packages": packages, "outputs": outputs}
    (directory / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")


def read_manifest(directory: Path) -> dict[str, Any]:
    """The fields of the ``Image`` in ``directory``, if its files have the recorded sizes.

    Their contents are not read, because this happens at the start of each run.

    Raises:
        NotFoundError: the directory has no built image.
        InvalidError: it is damaged.
    """
    path = directory / MANIFEST
    try:
        record = json.loads(path.read_bytes())
        sizes = {name: record["outputs"][name]["size"] for name in (KERNEL, INITRD)}
        image = dict(record["image"], kernel=directory / KERNEL, initrd=directory / INITRD)
        if (directory / DISK).exists():
            image["disk"] = directory / DISK
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no built image in {directory}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidError(f"The image's record {path} is damaged", why=str(error)) from error
    for name, size in sizes.items():
        found = _size(directory / name)
        if found != size:
            raise InvalidError(
                f"The image in {directory} is damaged",
                why=f"{name} has {found} bytes, its record says {size}",
                todo=f"Delete {directory}: it will be built again.",
            )
    return image


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
