"""The record of a machine that is about to start, and the settings to start it again."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm._disks import file_name
from core_infra.vm._hardware import check_processor
from core_infra.vm._images.image import Bootable, DiskImage, Image
from core_infra.vm._images.load import Request, resolve_image
from core_infra.vm._machine_spec import check_memory_of, default_memory
from core_infra.vm._manager.process_identity import start_of
from core_infra.vm._manager.record import Access, Container, ContainerStatus, checked_name
from core_infra.vm._manager.run_options import DEFAULT, RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._guest.run_config import RunConfig
    from core_infra.vm._manager.machine_directory import MachineDirectory

_BOOTABLE: TypeAdapter[Bootable] = TypeAdapter(Bootable)
_OWN = {"name", "detach", "ports", "publish", "volumes", "memory", "cpus", "ssh_port"}
_OWN |= {"packages", "suite"}  # they are in the image
"""Options that have fields of their own in the record."""


def new_record(
    image: Bootable,
    shown: str,
    options: RunOptions,
    *,
    adds_agent: bool,
    hypervisor: str,
    accelerator: str,
) -> Container:
    """The record of a new machine that is about to start.

    Args:
        image: the image that it boots.
        shown: the image, as it was given to ``run``.
        options: how it is run.
        adds_agent: whether its starts put the agent into the image.
        hypervisor: the name of the hypervisor.
        accelerator: the name of the accelerator.

    Raises:
        InvalidError: the name, the memory or the number of processors is not possible.
    """
    id_ = secrets.token_hex(4)
    memory = default_memory(image) if options.memory is None else options.memory
    cpus = (image.cpus or 1) if options.cpus is None else options.cpus
    check_memory_of(image, memory, cpus)
    check_processor(options.cpu)
    name = _generated_name(image.name, id_) if options.name is None else options.name
    return Container.model_validate(
        {
            "id": id_,
            "name": checked_name(name),
            "image": shown,
            # Until the hypervisor runs, this process stands for the machine.
            "pid": os.getpid(),
            "start": start_of(os.getpid()),
            "starting": True,
            "mounts": [
                one.model_copy(update={"path": str(Path(one.path).expanduser().absolute())})
                for one in options.mounts
            ],
            "again": saved_settings(image, shown, options),
            "memory": memory,
            "cpus": cpus,
            "hypervisor": hypervisor,
            "accelerator": accelerator,
            "access": Access.AGENT if image.has_agent or adds_agent else Access.NONE,
            "ssh_user": options.ssh_user,
            "ssh_key": options.ssh_key,
        }
    )


def _generated_name(image: str, id_: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", image.partition(" ")[0].partition(".")[0]).strip("-")
    return f"{stem[:40] or 'machine'}-{id_[:4]}"


def saved_settings(image: Bootable, shown: str, options: RunOptions) -> dict[str, Any]:
    """The settings that are kept in a machine's record, to start it again.

    Args:
        image: the image that it boots.
        shown: the image, as it was given to ``run``.
        options: how it is run.
    """
    values = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in _OWN
    }
    default = shown == DEFAULT
    return {
        "image": None if default else _BOOTABLE.dump_python(image, mode="json"),
        "arch": image.arch,
        "stamp": _stamp(image),
        "options": values,
    }


def load_settings(
    container: Container, directory: MachineDirectory, progress: Callable[[str], None]
) -> tuple[Bootable, RunOptions]:
    """The image and the options to start a machine again.

    Raises:
        UnavailableError: an earlier version has created it, and did not keep its settings.
        NotFoundError: its image does not exist any more.
        InvalidError: the disk below its own layer was changed meanwhile.
    """
    what = f"cannot start machine {container.name}"
    if not container.again:
        disk = directory.path / file_name(0)
        raise UnavailableError(
            what,
            why="an earlier version of core-infra created it, and did not keep its settings",
            todo=f"Its disk can be run: core-infra vm run -d {disk}" if disk.exists() else "",
        )
    again = container.again
    if again["image"] is None:
        image: Bootable = resolve_image(Request(arch=again["arch"]), progress=progress)
    else:
        image = _BOOTABLE.validate_python(again["image"])
    for path in _files(image):
        if not path.exists():
            raise NotFoundError(what, why=f"its image {path} does not exist any more")
    known = {field.name for field in dataclasses.fields(RunOptions)}
    options = RunOptions(
        name=container.name,
        detach=True,
        memory=container.memory,
        cpus=container.cpus,
        publish=container.published,
        volumes=container.mounts,
        ssh_port=container.ssh_port or 0,
        **{name: value for name, value in again["options"].items() if name in known},
    )
    if not options.in_place and again["stamp"] != _stamp(image):
        raise InvalidError(
            what,
            why=f"{container.image} was changed since, and the machine's disk is a layer over it",
            todo="Restore the image, or remove the machine.",
        )
    return image, options


def run_config(container: Container) -> RunConfig | None:
    """How the image of a machine wants commands to be run, if it says so."""
    image = container.again.get("image")
    found = None if image is None else _BOOTABLE.validate_python(image)
    return found.run if isinstance(found, Image) else None


def restarted_record(
    container: Container, image: Bootable, directory: MachineDirectory
) -> Container:
    """The record of a machine that is started again; removes files of its last start."""
    directory.hypervisor_log.unlink(missing_ok=True)
    if not isinstance(image, DiskImage) and image.disk is None:  # it has a new key at each boot
        directory.host_key.unlink(missing_ok=True)
    changes = {
        "status": ContainerStatus.RUNNING,
        "reason": "",
        # Until the hypervisor runs, this process stands for the machine.
        "pid": os.getpid(),
        "start": start_of(os.getpid()),
        "starting": True,
        "started_at": datetime.now(UTC),
        "ready": False,
        "log_from": directory.log_size(),
    }
    return container.model_copy(update=changes)


def _files(image: Bootable) -> list[Path]:
    if isinstance(image, DiskImage):
        return [image.path]
    return [path for path in (image.kernel, image.initrd, image.disk) if path is not None]


def _stamp(image: Bootable) -> list[int]:
    """The size and time of the image's disk, which change with its content."""
    path = image.path if isinstance(image, DiskImage) else image.disk
    if path is None:
        return []
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
