"""What is remembered of a machine before it is started."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from core_infra.vm.hypervisors.processor import check_processor
from core_infra.vm.manager.again import remembered
from core_infra.vm.manager.container import Container, checked_name
from core_infra.vm.manager.identity import start_of
from core_infra.vm.manager.starting import access_of
from core_infra.vm.sizes import check, fitting_memory

if TYPE_CHECKING:
    from core_infra.vm.images.format import Bootable
    from core_infra.vm.manager.container import RunOptions


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
