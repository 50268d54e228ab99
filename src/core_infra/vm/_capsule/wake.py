"""Wake a machine of a capsule up again."""

from __future__ import annotations

import contextlib
import tempfile
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import Path
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError, UnavailableError
from core_infra.vm._guest.run_config import RunConfig
from core_infra.vm._hardware import MINIMUM_MEMORY, check_processor
from core_infra.vm._images.image import Image, checked_arch
from core_infra.vm._launcher import Launcher, starter_of
from core_infra.vm._machine_spec import MachineSpec
from core_infra.vm._snapshots import snapshot as files
from core_infra.vm._snapshots.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._capsule.file import Capsule
    from core_infra.vm._machine import Machine

_MORE = 256 << 20
"""Bytes of a state besides the memory."""


def machine_facts(spec: MachineSpec, accelerator: str, hypervisor: str) -> dict[str, Any]:
    """What a capsule must say of a machine so that :func:`woken` can make it again.

    Args:
        spec: what it is made of.
        accelerator: how its instructions run.
        hypervisor: the version of QEMU.
    """
    run = getattr(spec.image, "run", None)
    return {
        "image": spec.image.name,
        "arch": spec.image.arch,
        "memory": spec.memory,
        "cpus": spec.cpus,
        "cpu": spec.cpu,
        "network": spec.network,
        "accelerator": accelerator,
        "hypervisor": hypervisor,
        "run": None if run is None else [run.env, run.workdir, run.user],
    }


@contextlib.contextmanager
def woken(capsule: Capsule, name: str = "") -> Iterator[Machine]:
    """Within the block, a machine of a capsule runs again, as it stood when the test failed.

    Args:
        capsule: the capsule.
        name: the machine's; "": the first one that can be woken.

    Raises:
        NotFoundError: the capsule has no such machine, or none that can be woken.
        UnavailableError: this host's QEMU cannot load it.
        InvalidError: what the capsule says of it makes no sense.
    """
    record = _find(capsule, name)
    try:
        spec = _spec(record)
        accelerator, version = str(record["facts"]["accelerator"]), record["facts"]["hypervisor"]
        nonce, state = str(record["nonce"]), str(record["state"])
    except (KeyError, TypeError, ValueError, CoreInfraError) as error:
        raise InvalidError(f"the capsule {capsule.path} is damaged", why=str(error)) from error
    with Launcher(accelerator=accelerator, ready=0) as launcher:
        found = launcher.hypervisor.version()
        if found != version:
            raise UnavailableError(
                f"cannot wake {spec.name} of {capsule.path}",
                why=f"it was saved by QEMU {version}, and this host has QEMU {found}",
                todo="core-infra vm show works with any version.",
            )
        with tempfile.TemporaryDirectory(prefix="core-infra-capsule-") as work:
            directory = Path(work)
            limit = (spec.memory << 20) + _MORE
            capsule.extract(state, directory / files.STATE, limit=limit)
            log = str(record.get("log", "")).encode("utf-8", "replace")
            (directory / files.CONSOLE).write_bytes(log)
            saved = Snapshot(directory, "", nonce, 0.0, {})
            yield starter_of(launcher).load(spec, accelerator, saved)


def _find(capsule: Capsule, name: str) -> dict[str, Any]:
    machines = [one for one in capsule.manifest["machines"] if isinstance(one, dict)]
    names = ", ".join(str(one.get("name")) for one in machines) or "none"
    if name:
        wanted = [one for one in machines if one.get("name") == name]
        if not wanted:
            raise NotFoundError(f"the capsule has no machine {name!r}", why=f"it has: {names}")
    else:
        wanted = [one for one in machines if one.get("state")] or machines
    if not wanted:
        raise NotFoundError("the capsule has no machine")
    if wanted[0].get("state") not in capsule.manifest["digests"]:
        raise NotFoundError(
            f"the machine {wanted[0].get('name')} cannot be woken",
            why=str(wanted[0].get("why_not") or "its state was not saved"),
            todo="core-infra vm show shows what is known of it.",
        )
    return wanted[0]


def _spec(record: dict[str, Any]) -> MachineSpec:
    facts = record["facts"]
    run = facts["run"]
    memory, cpus = int(facts["memory"]), int(facts["cpus"])
    if memory < MINIMUM_MEMORY or cpus < 1:
        raise ValueError("its memory or its processors make no sense")
    if facts["cpu"] is not None:
        check_processor(facts["cpu"])
    image = Image(
        kernel=_NO_KERNEL,
        initrd=None,
        cmdline="",
        arch=checked_arch(facts["arch"]),
        name=str(facts["image"]),
        has_agent=True,
        console="",
        run=None if run is None else RunConfig(dict(run[0]), str(run[1]), str(run[2])),
    )
    return MachineSpec(
        str(record["name"]), image, memory, cpus, cpu=facts["cpu"], network=str(facts["network"])
    )


_NO_KERNEL = Path("/nonexistent")
"""The kernel is in the machine's memory; without its file, the machine ends when it reboots."""
