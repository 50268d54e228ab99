"""Save machines to a capsule: those that share a network at one moment, and at earlier ones."""

from __future__ import annotations

import base64
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

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
    from core_infra.vm._capsule.moments import Moment
    from core_infra.vm._launcher import Launcher
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_spec import MachineSpec
    from core_infra.vm._saved_cluster import (
        SavedCluster,
        SavedFault,
        SavedMachine,
        SavedNetwork,
    )

_LIMIT = 20.0
"""Seconds, before scaling, that writing the memory of a machine may take for each GiB."""

_MOST_MEMORY = 1024
"""MiB of a machine whose earlier moments are stored: this much is in memory while they are."""


class SavedRecords(NamedTuple):
    """What :func:`~core_infra.vm._capsule.wake.woken` needs of saved machines, in types of JSON.

    Attributes:
        machines: of each machine, or ``why_not``.
        groups: of each group of machines that share networks.
        moments: of each earlier moment.
    """

    machines: dict[Machine, dict[str, Any]]
    groups: list[dict[str, Any]]
    moments: list[dict[str, Any]]


def add_machines(
    writer: CapsuleWriter,
    launcher: Launcher,
    machines: Sequence[Machine],
    *,
    whole: bool,
    moments: Sequence[Moment] = (),
) -> SavedRecords:
    """Save machines that run; they continue.

    Args:
        writer: writes the capsule.
        launcher: runs the machines.
        machines: the machines.
        whole: with the images below their disks, whatever their size.
        moments: earlier moments; their forks are ended when they have been written.
    """
    clusters = clusters_of(launcher)
    work = launcher.run.new_directory(f"{INTERNAL}capsule")
    try:
        adding = _Adding(writer, work, moments, whole=whole)
        for members in clusters.connected(machines):
            try:
                saved = clusters.capture(members)
            except CoreInfraError as error:
                adding.records |= {
                    one: {"why_not": f"it could not be saved: {error}"} for one in members
                }
                continue
            try:
                adding.add_group(members, saved)
            finally:
                for one in saved.machines:
                    one.source.close()  # also those that a full disk has kept from being written
        return adding.finished()
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Adding:
    """Adds machines to a capsule: each as it stands, then as it stood at earlier moments.

    Of the earlier moments, the difference to the first state that was added is stored.
    """

    def __init__(
        self, writer: CapsuleWriter, work: Path, moments: Sequence[Moment], *, whole: bool
    ) -> None:
        self.records: dict[Machine, dict[str, Any]] = {}
        self._writer = writer
        self._work = work
        self._moments = moments
        self._whole = whole
        self._groups: list[dict[str, Any]] = []
        self._earlier: dict[tuple[Machine, int], dict[str, Any]] = {}
        self._numbers = itertools.count()

    def add_group(self, members: Sequence[Machine], saved: SavedCluster) -> None:
        """Add machines that share networks."""
        self._groups.append(_group([one.name for one in members], saved))
        for machine, one in zip(members, saved.machines, strict=True):
            self.records[machine] = self._add(machine, one)

    def finished(self) -> SavedRecords:
        """Add what only earlier moments have; return the records of all."""
        for moment in self._moments:
            for machine in moment.members:
                if (machine, moment.step.number) not in self._earlier:
                    self._add_moments(machine, None)
        return SavedRecords(self.records, self._groups, list(map(self._moment, self._moments)))

    def _add(self, machine: Machine, saved: SavedMachine) -> dict[str, Any]:
        prefix = f"machine{next(self._numbers)}"
        is_base = any(machine in moment.members for moment in self._moments)
        record = self._write(prefix, saved, is_base=is_base)
        if is_base:
            self._add_moments(machine, record if "state" in record else None)
        return record

    def _add_moments(self, machine: Machine, later: dict[str, Any] | None) -> None:
        for moment in reversed(self._moments):
            if moment.saved is None or machine not in moment.members:
                continue
            number = moment.step.number
            saved = moment.saved.machines[moment.members.index(machine)]
            if saved.spec.memory > _MOST_MEMORY:
                record = {"why_not": f"it has more than {_MOST_MEMORY} MiB of memory"}
            else:
                prefix = f"moment{number}/machine{next(self._numbers)}"
                record = self._write(prefix, saved, is_base=later is None, later=later)
            self._earlier[machine, number] = record
            if later is None and "state" in record:
                later = record
        self._writer.forget_bases()

    def _write(
        self,
        prefix: str,
        machine: SavedMachine,
        *,
        is_base: bool,
        later: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        source = machine.source
        limit = timeouts.scaled(_LIMIT) * max(1, machine.spec.memory / 1024)
        is_base = is_base and machine.spec.memory <= _MOST_MEMORY

        def produce(put: Callable[[bytes], object]) -> None:
            source.write_state(put, timeout=limit)

        place = self._work / prefix
        place.mkdir(parents=True)
        try:
            disks = add_disks(
                self._writer,
                prefix,
                machine,
                place,
                whole=self._whole,
                is_base=is_base,
                later=() if later is None else later["disks"],
            )
            over = None if later is None else later["state"]
            self._writer.add(f"{prefix}/state", produce, is_base=is_base, over=over)
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

    def _moment(self, moment: Moment) -> dict[str, Any]:
        number = moment.step.number
        found = {
            "number": number,
            "machine": moment.machine.name,
            "what": moment.step.what,
            "why_not": moment.why_not,
            "machines": [],
            "networks": [],
        }
        if moment.saved is not None:
            names = [one.name for one in moment.members]
            found["networks"] = _group(names, moment.saved)["networks"]
            found["machines"] = [
                {"name": machine.name, **self._earlier[machine, number]}
                for machine in moment.members
            ]
        return found


def _group(names: list[str], saved: SavedCluster) -> dict[str, Any]:
    return {"machines": names, "networks": [_network(one) for one in saved.networks]}


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
