"""What is remembered of a machine before it is started."""

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
from core_infra.vm._hardware import check, fitting_memory
from core_infra.vm._hypervisors.processor import check_processor
from core_infra.vm._images.formats import Bootable, DiskImage
from core_infra.vm._manager import run_options
from core_infra.vm._manager.process_identity import start_of
from core_infra.vm._manager.record import Container, RunOptions, Status, checked_name
from core_infra.vm._manager.start import access_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._manager.machine_directory import MachineDirectory


def planned(
    image: Bootable, shown: str, options: RunOptions, *, hypervisor: str, accelerator: str
) -> Container:
    """A machine that is about to be started.

    Args:
        image: what it boots.
        shown: the image, in the words of who asked for it.
        options: how it is to run.
        hypervisor: the name of what will run it.
        accelerator: what that will run it by.

    Raises:
        InvalidError: it cannot have this name, or so much memory, or so many processors.
    """
    id_ = secrets.token_hex(4)
    memory = fitting_memory(image) if options.memory is None else options.memory
    cpus = (image.cpus or 1) if options.cpus is None else options.cpus
    check(memory, cpus)
    check_processor(options.cpu)
    name = _made_up(image.name, id_) if options.name is None else options.name
    return Container.model_validate(
        {
            "id": id_,
            "name": checked_name(name),
            "image": shown,
            # Until the hypervisor runs, the machine lives and dies with who starts it.
            "pid": os.getpid(),
            "start": start_of(os.getpid()),
            "starting": True,
            "mounts": [
                one.model_copy(update={"path": str(Path(one.path).expanduser().absolute())})
                for one in options.mounts
            ],
            "again": remembered(image, shown, options),
            "memory": memory,
            "cpus": cpus,
            "hypervisor": hypervisor,
            "accelerator": accelerator,
            "access": access_of(image),
            "ssh_user": options.ssh_user,
            "ssh_key": options.ssh_key,
        }
    )


def _made_up(image: str, id_: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", image.partition(" ")[0].partition(".")[0]).strip("-")
    return f"{stem[:40] or 'machine'}-{id_[:4]}"


_BOOTABLE: TypeAdapter[Bootable] = TypeAdapter(Bootable)
_OWN = {"name", "detach", "ports", "publish", "volumes", "memory", "cpus", "ssh_port"}
"""Options that the record has in a form of its own."""


def remembered(image: Bootable, shown: str, options: RunOptions) -> dict[str, Any]:
    """For the record of a machine that is about to be started.

    Args:
        image: what it boots.
        shown: the image, in the words of who asked for it.
        options: how it is to run.
    """
    values = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in _OWN
    }
    default = shown == run_options.DEFAULT
    return {
        "image": None if default else _BOOTABLE.dump_python(image, mode="json"),
        "arch": image.arch,
        "stamp": _stamp(image),
        "options": values,
    }


def recalled(
    container: Container, folder: MachineDirectory, tell: Callable[[str], None]
) -> tuple[Bootable, RunOptions]:
    """What a machine boots, and how it is to run, when it is started again.

    Raises:
        UnavailableError: an earlier version has made it, and did not keep that.
        NotFoundError: its image is not there any more.
        InvalidError: the disk that its own one is a layer over was changed meanwhile.
    """
    what = f"cannot start machine {container.name}"
    if not container.again:
        disk = folder.path / file_name(0)
        raise UnavailableError(
            what,
            why="an earlier version of core-infra has made it, and did not keep how",
            todo=f"Its disk can be run: core-infra vm run -d {disk}" if disk.exists() else "",
        )
    again = container.again
    if again["image"] is None:
        image: Bootable = run_options.find(run_options.DEFAULT, arch=again["arch"], tell=tell)
    else:
        image = _BOOTABLE.validate_python(again["image"])
    for path in _files(image):
        if not path.exists():
            raise NotFoundError(what, why=f"its image {path} is not there any more")
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
            todo="Put the image back as it was, or remove the machine.",
        )
    return image, options


def renewed(container: Container, image: Bootable, folder: MachineDirectory) -> Container:
    """A machine's record while it is started again; tidies up after the former start."""
    folder.hypervisor_log.unlink(missing_ok=True)
    if not isinstance(image, DiskImage) and image.disk is None:  # it has another one each time
        folder.host_key.unlink(missing_ok=True)
    changes = {
        "status": Status.RUNNING,
        "reason": "",
        # Until the hypervisor runs, the machine lives and dies with who starts it.
        "pid": os.getpid(),
        "start": start_of(os.getpid()),
        "starting": True,
        "started_at": datetime.now(UTC),
        "ready": False,
        "log_from": folder.log_size(),
    }
    return container.model_copy(update=changes)


def _files(image: Bootable) -> list[Path]:
    if isinstance(image, DiskImage):
        return [image.path]
    return [path for path in (image.kernel, image.initrd, image.disk) if path is not None]


def _stamp(image: Bootable) -> list[int]:
    """What changes with a disk's content."""
    path = image.path if isinstance(image, DiskImage) else image.disk
    if path is None:
        return []
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
