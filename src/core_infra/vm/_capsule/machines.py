"""Save machines to a capsule: those that share a network at one moment."""

from __future__ import annotations

import base64
import dataclasses
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import shutil
from core_infra.errors import CoreInfraError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._capsule.disks import add_disks
from core_infra.vm._images.image import DiskImage, Image
from core_infra.vm._launcher import clusters_of
from core_infra.vm._run_directory import INTERNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra._unpatched import Path
    from core_infra.vm._capsule.file import CapsuleWriter
    from core_infra.vm._launcher import Launcher
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._saved_cluster import SavedFault, SavedMachine, SavedNetwork

_LIMIT = 20.0
"""Seconds, before scaling, that writing the memory of a machine may take for each GiB."""


def add_machines(
    writer: CapsuleWriter, launcher: Launcher, machines: Sequence[Machine], *, whole: bool
) -> tuple[dict[Machine, dict[str, Any]], list[dict[str, Any]]]:
    """Save machines that run; they continue.

    Args:
        writer: writes the capsule.
        launcher: runs the machines.
        machines: the machines.
        whole: with the images below their disks, whatever their size.

    Returns:
        What :func:`~core_infra.vm._capsule.wake.woken` needs of each machine, or ``why_not``; and
        of each group of machines that share networks. All in types of JSON.
    """
    records: dict[Machine, dict[str, Any]] = {}
    groups = []
    clusters = clusters_of(launcher)
    work = launcher.run.new_directory(f"{INTERNAL}capsule")
    try:
        for members in clusters.connected(machines):
            try:
                saved = clusters.capture(members)
            except CoreInfraError as error:
                records |= {one: {"why_not": f"it could not be saved: {error}"} for one in members}
                continue
            groups.append(
                {
                    "machines": [one.name for one in members],
                    "networks": [_network(one) for one in saved.networks],
                }
            )
            try:
                for machine, one in zip(members, saved.machines, strict=True):
                    records[machine] = _add(writer, len(records), one, work, whole=whole)
            finally:
                for one in saved.machines:
                    one.source.close()  # also those that a full disk has kept from being written
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return records, groups


def _add(
    writer: CapsuleWriter, number: int, machine: SavedMachine, work: Path, *, whole: bool
) -> dict[str, Any]:
    prefix, source = f"machine{number}", machine.source
    limit = timeouts.scaled(_LIMIT) * max(1, machine.spec.memory / 1024)

    def produce(put: Callable[[bytes], object]) -> None:
        source.write_state(put, timeout=limit)

    place = work / prefix
    place.mkdir()
    try:
        disks = add_disks(writer, prefix, machine, place, whole=whole)
        writer.add(f"{prefix}/state", produce)
    except CoreInfraError as error:
        return {"why_not": f"it could not be saved: {error}"}
    finally:
        source.close()  # now: its memory is needed for the next one
        shutil.rmtree(place, ignore_errors=True)
    return {
        "state": f"{prefix}/state",
        "nonce": source.nonce,
        "disks": disks,
        "cards": machine.cards,
    }


def machine_facts(spec: MachineSpec, accelerator: str, hypervisor: str) -> dict[str, Any]:
    """What a machine is made of, in types of JSON.

    Args:
        spec: the machine.
        accelerator: how its instructions run.
        hypervisor: the version of QEMU.
    """
    run = spec.image.run if isinstance(spec.image, Image) else None
    return {
        "image": spec.image.name,
        "arch": spec.image.arch,
        "boots_disk": isinstance(spec.image, DiskImage),
        "memory": spec.memory,
        "cpus": spec.cpus,
        "cpu": spec.cpu,
        "network": spec.network,
        "time": spec.time,
        "accelerator": accelerator,
        "hypervisor": hypervisor,
        "run": None if run is None else [run.env, run.workdir, run.user],
    }


def _network(network: SavedNetwork) -> dict[str, Any]:
    return {
        "name": network.name,
        "subnet": network.subnet,
        "outside": network.outside,
        "seed": network.seed,
        "exposed": network.exposed,
        "frames": [
            [one.source, one.target, one.left, base64.b64encode(one.data).decode()]
            for one in network.frames
        ],
        "faults": [_fault(one) for one in network.faults],
    }


def _fault(fault: SavedFault) -> dict[str, Any]:
    return {
        "description": fault.description,
        "cuts": sorted(fault.cuts),
        "links": [[*pair, dataclasses.asdict(link)] for pair, link in fault.links.items()],
    }
