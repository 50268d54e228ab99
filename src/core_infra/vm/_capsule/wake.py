"""Wake machines of a capsule up again."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import Path
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError, UnavailableError
from core_infra.vm._capsule.disks import extract_disks
from core_infra.vm._guest.results import harmless
from core_infra.vm._guest.run_config import RunConfig
from core_infra.vm._hardware import MINIMUM_MEMORY, REAL, check_processor
from core_infra.vm._images.formats import ImageFormat
from core_infra.vm._images.image import DiskImage, Image, checked_arch
from core_infra.vm._launcher import Launcher, clusters_of
from core_infra.vm._machine_spec import MachineSpec
from core_infra.vm._names import plain_name
from core_infra.vm._network.link_settings import LinkSettings
from core_infra.vm._network.under_way import FrameUnderWay
from core_infra.vm._run_directory import INTERNAL
from core_infra.vm._saved_cluster import SavedCluster, SavedFault, SavedMachine, SavedNetwork
from core_infra.vm._snapshots import snapshot as files
from core_infra.vm._snapshots.clone_source import SnapshotSource
from core_infra.vm._snapshots.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from core_infra.vm._capsule.file import Capsule
    from core_infra.vm._hardware import Disk
    from core_infra.vm._machine import Machine

_MORE = 256 << 20
"""Bytes of a state besides the memory."""

_CLUSTER = "capsule"


@contextlib.contextmanager
def woken(capsule: Capsule, name: str = "", *, before: int | None = None) -> Iterator[Machine]:
    """Within the block, a machine of a capsule runs again, as it stood when the test failed.

    So do the machines that it shares networks with, on their own copy of these.

    Args:
        capsule: the capsule.
        name: the machine's; "": the first one that can be woken, or that the command was for.
        before: as it stood before this command of the test, by its number.

    Raises:
        NotFoundError: the capsule has no such machine, or none that can be woken; no such command;
            or the image of a disk is not on this host.
        UnavailableError: this host's QEMU cannot load it.
        InvalidError: what the capsule says of it makes no sense.
    """
    state = capsule.manifest
    if before is not None:
        state = moment_of(capsule, before)
        name = name or str(state["machine"])
    chosen = _find(capsule, state, name)
    try:
        records, networks = _group(state, chosen)
        accelerator = str(chosen["facts"]["accelerator"])
        for record in records:  # before anything is started
            _spec(record, ())
            if unknown := {net for net, _ in _cards(record)} - {one.name for one in networks}:
                raise ValueError(f"there is no network {', '.join(unknown)}")
    except _WRONG as error:
        raise _damaged(capsule, error) from error
    with Launcher(accelerator=accelerator, ready=0) as launcher:
        work = launcher.run.new_directory(f"{INTERNAL}{_CLUSTER}")
        saved = [_load(capsule, one, launcher, work / str(n)) for n, one in enumerate(records)]
        cluster = clusters_of(launcher).copy(SavedCluster(tuple(saved), networks), _CLUSTER)
        yield cluster[plain_name(str(chosen["name"]))]


_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError, CoreInfraError)


def _damaged(capsule: Capsule, error: Exception) -> InvalidError:
    return InvalidError(
        f"the capsule {capsule.path} is damaged",
        why=harmless(f"{type(error).__name__}: {error}"),
    )


def moment_of(capsule: Capsule, number: int) -> dict[str, Any]:
    """The moment before a command, like a manifest that has only this moment.

    Raises:
        NotFoundError: the capsule has no such moment.
        InvalidError: what the capsule says of it makes no sense.
    """
    try:
        moments = {int(one["number"]): one for one in capsule.manifest.get("moments", ())}
        if number not in moments:
            known = ", ".join(map(str, sorted(moments)))
            raise NotFoundError(
                f"the capsule cannot go back to before command {number}",
                why=f"it can to before {known}" if known else "it has only the end of the test",
                todo="Run the test again with --core-vm-trace-steps=N, which keeps the machines "
                "before each of its last N commands.",
            )
        found = moments[number]
        if found["why_not"]:
            raise NotFoundError(
                f"the capsule cannot go back to before command {number}",
                why=harmless(str(found["why_not"])),
            )
        whole = {one["name"]: one for one in capsule.manifest["machines"]}
        machines = [
            {"name": one["name"], "facts": whole[one["name"]]["facts"], "log": "", **one}
            for one in found["machines"]
        ]
        names = [one["name"] for one in machines]
        groups = [{"machines": names, "networks": found["networks"]}]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(capsule, error) from error
    return {**found, "machines": machines, "groups": groups}


def _find(capsule: Capsule, state: Mapping[str, Any], name: str) -> dict[str, Any]:
    machines = [one for one in state["machines"] if isinstance(one, dict)]
    names = ", ".join(str(one.get("name")) for one in machines) or "none"
    if name:
        wanted = [one for one in machines if name in _names(one)]
        wanted.sort(key=lambda one: not one.get("state"))
        if not wanted:
            raise NotFoundError(f"the capsule has no machine {name!r}", why=f"it has: {names}")
    else:
        wanted = [one for one in machines if one.get("state")] or machines
    if not wanted:
        raise NotFoundError("the capsule has no machine")
    if wanted[0].get("state") not in capsule.manifest["digests"]:
        raise NotFoundError(
            f"the machine {wanted[0].get('name')} cannot be woken",
            why=harmless(str(wanted[0].get("why_not") or "its state was not saved")),
            todo="core-infra vm show shows what is known of it.",
        )
    return wanted[0]


def _names(record: Mapping[str, Any]) -> tuple[str, str]:
    name = str(record.get("name"))
    return name, plain_name(name)


def _group(
    state: Mapping[str, Any], chosen: dict[str, Any]
) -> tuple[list[dict[str, Any]], tuple[SavedNetwork, ...]]:
    """The machines that share networks with the chosen one, itself included, and the networks."""
    for group in state.get("groups", ()):
        if chosen["name"] in group["machines"]:
            records = [
                one
                for one in state["machines"]
                if one["name"] in group["machines"] and one.get("state")
            ]
            return records, tuple(map(_network, group["networks"]))
    return [chosen], ()


def _load(
    capsule: Capsule, record: dict[str, Any], launcher: Launcher, directory: Path
) -> SavedMachine:
    """What a machine is cloned from."""
    name = str(record["name"])
    found, saved_by = launcher.hypervisor.version(), record["facts"]["hypervisor"]
    if found != saved_by:
        raise UnavailableError(
            f"cannot wake {name} of {capsule.path}",
            why=f"it was saved by QEMU {saved_by}, and this host has QEMU {found}",
            todo="core-infra vm show works with any version.",
        )
    directory.mkdir()
    try:
        disks = extract_disks(capsule, name, record.get("disks", ()), directory)
        spec = _spec(record, disks)
        limit = (spec.memory << 20) + _MORE
        capsule.extract(str(record["state"]), directory / files.STATE, limit=limit)
        log = str(record.get("log", "")).encode("utf-8", "replace")
        (directory / files.CONSOLE).write_bytes(log)
        saved = Snapshot(directory, "", str(record["nonce"]), 0.0, {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(capsule, error) from error
    accelerator = str(record["facts"]["accelerator"])
    source = SnapshotSource(launcher.hypervisor, spec, accelerator, saved)
    return SavedMachine(plain_name(name), spec, source, _cards(record))


def _spec(record: dict[str, Any], disks: Sequence[Disk]) -> MachineSpec:
    facts = record["facts"]
    run = facts["run"]
    memory, cpus = int(facts["memory"]), int(facts["cpus"])
    if memory < MINIMUM_MEMORY or cpus < 1:
        raise ValueError("its memory or its processors make no sense")
    if facts["cpu"] is not None:
        check_processor(facts["cpu"])
    arch, title = checked_arch(facts["arch"]), str(facts["image"])
    image = (
        DiskImage(_NO_FILE, ImageFormat.RAW, arch, title)
        if facts.get("boots_disk")
        else Image(
            kernel=_NO_FILE,
            initrd=None,
            cmdline="",
            arch=arch,
            name=title,
            has_agent=True,
            console="",
            run=None if run is None else RunConfig(dict(run[0]), str(run[1]), str(run[2])),
        )
    )
    return MachineSpec(
        str(record["name"]),
        image,
        memory,
        cpus,
        disks=tuple(disks),
        cpu=facts["cpu"],
        cards=len(_cards(record)),
        network=str(facts["network"]),
        time=str(facts.get("time", REAL)),
    )


def _cards(record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(net), str(address)) for net, address in record.get("cards", ()))


def _network(record: dict[str, Any]) -> SavedNetwork:
    return SavedNetwork(
        str(record["name"]),
        str(record["subnet"]),
        bool(record["outside"]),
        int(record["seed"]),
        tuple((str(inside), str(outside)) for inside, outside in record["exposed"]),
        tuple(
            FrameUnderWay(str(source), str(target), int(left), base64.b64decode(data))
            for source, target, left, data in record["frames"]
        ),
        tuple(map(_fault, record["faults"])),
    )


def _fault(record: dict[str, Any]) -> SavedFault:
    return SavedFault(
        str(record["description"]),
        frozenset((str(source), str(target)) for source, target in record["cuts"]),
        {
            (str(source), str(target)): LinkSettings(**settings)
            for source, target, settings in record["links"]
        },
    )


_NO_FILE = Path("/nonexistent")
"""The kernel is in the machine's memory; without its file, the machine ends when it reboots."""
