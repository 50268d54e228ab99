"""The machines of one owner: started for it, described in reports, reverted, ended with it."""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import TYPE_CHECKING, Any, Protocol

from core_infra._unpatched import Path, shutil, time
from core_infra.errors import InvalidError
from core_infra.vm._machine import record_of
from core_infra.vm._machine_state import Status
from pytest_core_infra._reports import FAILURES
from pytest_core_infra._vm import reporting
from pytest_core_infra._vm.evidence import (
    ALL_OF_IT,
    Evidence,
    fault_step,
    network_evidence,
    was_active,
)
from pytest_core_infra._vm.factory import MachineFactory
from pytest_core_infra._vm.networks import NetworkFactory

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from core_infra.vm._capsule.moments import Moments
    from core_infra.vm._cluster import Cluster
    from core_infra.vm._faults.registry import MachineFault
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_state import Ending
    from core_infra.vm._networks import Network
    from pytest_core_infra._vm.evidence import NetworkEvidence
    from pytest_core_infra._vm.owner import Owner
    from pytest_core_infra._vm.settings import Settings

_BEFORE = "core-infra: before the test"
"""The snapshot that a shared machine is reverted to between tests."""


class MachineStarter(Protocol):
    """What starts and ends machines."""

    @property
    def settings(self) -> Settings:
        """The settings of the run."""
        ...

    @property
    def moments(self) -> Moments:
        """Keeps the machines of the test as they stood before its commands."""
        ...

    def start(self, **options: Any) -> Machine:
        """Start a machine."""
        ...

    def network(self, subnet: str | None, *, name: str | None, outside: bool, seed: int) -> Network:
        """Make a network."""
        ...

    def keep(self, machine: Machine, owner: str) -> None:
        """Leave a machine running when this process ends."""
        ...

    def discard(self, machine: Machine, ending: Ending) -> None:
        """Stop a machine and remove its files."""
        ...


class OwnedMachines:
    """The machines of one owner: of a test, or of a fixture that several tests share.

    Args:
        starter: starts and ends the machines.
        owner: the owner.
        requested: default arguments of a start, requested by markers.
        tmp_path_factory: makes the directory for console logs of failed tests.
        revert: whether machines are reverted after each test; None if they are not shared.

    Attributes:
        factory: starts machines for the owner.
        machines: the machines that were started and have not ended.
        network_factory: makes networks for the owner.
        networks: the networks that it has made.
        owner: the same.
    """

    def __init__(
        self,
        starter: MachineStarter,
        owner: Owner,
        requested: Mapping[str, Any],
        tmp_path_factory: pytest.TempPathFactory,
        *,
        revert: bool | None = None,
    ) -> None:
        self.factory = MachineFactory(self.start)
        self.machines: list[Machine] = []
        self.network_factory = NetworkFactory(self._make_network)
        self.networks: list[Network] = []
        self._clusters: list[Cluster] = []
        self.owner = owner
        self._starter = starter
        self._requested = requested
        self._tmp_path_factory = tmp_path_factory
        self._revert = revert
        self._reverted: list[Machine] = []
        self._without_snapshot: list[Machine] = []
        self._since_when: dict[Machine, float] = {}
        self._console_from: dict[Machine, int] = {}
        self._logs: Path | None = None
        self._failed = False

    def start(self, *, revert: bool | None = None, **options: Any) -> Machine:
        """Start a machine.

        Args:
            revert: whether it is reverted after each test.
            options: arguments of :meth:`MachineStarter.start`.
        """
        reverts = self._reverts(revert)
        return self._add(self._starter.start(**{**self._requested, **options}), reverts=reverts)

    def add(self, machine: Machine) -> Machine:
        """Add a machine that was started elsewhere: it is described and ended with the others."""
        return self._add(machine, reverts=self._reverts(None))

    def add_cluster(self, cluster: Cluster) -> Cluster:
        """Add a cluster: its machines and networks are described and ended with the others."""
        self._clusters.append(cluster)
        self.networks += cluster.networks.values()
        for machine in cluster:
            self.add(machine)
        return cluster

    def _make_network(self, subnet: str | None, **options: Any) -> Network:
        network = self._starter.network(subnet, **options)
        self.networks.append(network)
        return network

    def _add(self, machine: Machine, *, reverts: bool) -> Machine:
        self.machines.append(machine)
        self._starter.moments.watch(machine)
        self._since_when[machine] = record_of(machine).handed_out
        self._console_from[machine] = record_of(machine).console_at_start
        if reverts:
            self._reverted.append(machine)
            self._without_snapshot.append(machine)
        return machine

    def is_used_by(self, item: pytest.Item) -> bool:
        """Whether a test can use the machines, or has run a command in one of them."""
        return self.owner.fixture in getattr(item, "fixturenames", ()) or any(
            self._has_run(machine) for machine in self.machines
        )

    def start_report(self) -> None:
        """Start the report of another test: it shows what the machines do from now on."""
        self._since_when = dict.fromkeys(self.machines, time.monotonic())
        self._console_from = {one: record_of(one).console_position() for one in self.machines}

    def evidence(self) -> list[Evidence]:
        """What is known of the machines now that a test has failed; asks those that run."""
        self._failed = True
        return [self._evidence_of(machine) for machine in self.machines]

    def network_evidence(self, since: float) -> list[NetworkEvidence]:
        """What is known of the networks.

        Args:
            since: when the test began; faults that ended before are left out.
        """
        return [network_evidence(network, since) for network in self.networks]

    def _evidence_of(self, machine: Machine) -> Evidence:
        record = record_of(machine)
        found = Evidence(
            machine.name,
            machine.status.value,
            steps=record.timeline.since(self._since_when[machine]),
            left_out=record.timeline.dropped,
            log=self._copy_log(machine),
            booted=self._console_from[machine] == 0,
        )
        try:
            found.console = record.console_since(self._console_from[machine])
        except FAILURES as error:
            found.console = f"it cannot be read: {error}"
        if machine.pause_reason is not None:
            found.trouble = str(machine.pause_reason)
        elif machine.status is Status.RUNNING:
            found.changes = record.changes()
        elif machine.status is Status.PAUSED:
            found.trouble = "it is paused"
        else:
            found.trouble = f"it has ended: {record.why_it_ended()}"
        faults = self._faults(machine)
        steps = [*found.steps, *map(fault_step, faults)]
        found.steps = sorted(steps, key=lambda step: step.began)
        found.faults = [fault.description for fault in faults if was_active(fault)]
        if self._is_kept(machine):
            found.more.append(
                reporting.kept(machine)
                if self._revert is None
                else reporting.kept_later(machine, self.owner.label)
            )
        return found

    def uses(self) -> list[tuple[str, float]]:
        """The image of each machine of the test, and for how many seconds it was used."""
        now = time.monotonic()
        return [
            (machine.spec.image.name, now - self._since_when[machine]) for machine in self.machines
        ]

    def forget_snapshots(self) -> None:
        """Revert to a later state: what a shared fixture has changed must not be undone."""
        self._without_snapshot = list(self._reverted)

    def before_test(self) -> None:
        """Save the state that machines are reverted to after the test."""
        for machine in self._without_snapshot:
            if machine.status is Status.RUNNING:
                machine.snapshot(_BEFORE)
        self._without_snapshot = [
            one for one in self._without_snapshot if one.status is not Status.RUNNING
        ]

    def after_test(self) -> None:
        """Revert the machines to their state before the test, even if they crashed."""
        for machine in self._reverted:
            if machine.status in (Status.RUNNING, Status.PAUSED, Status.FAILED, Status.OFF):
                machine.revert(_BEFORE if machine not in self._without_snapshot else None)

    def heal(self) -> None:
        """End the faults that a test has left in networks and machines that tests share."""
        with contextlib.ExitStack() as healing:  # an error of one fault does not keep the others
            for machine in self.machines:
                for fault in self._faults(machine):
                    healing.callback(fault.heal)
            for network in self.networks:
                healing.callback(network.heal)

    def release(self) -> None:
        """End the machines at the end of their scope, except those that are to be kept."""
        kept = any(map(self._is_kept, self.machines))
        while self.machines:
            machine = self.machines.pop()
            if self._is_kept(machine):
                self._starter.keep(machine, self.owner.label)
            else:
                self._starter.discard(machine, self.owner.ending())
        with contextlib.ExitStack() as ending:
            for cluster in [] if kept else self._clusters:
                ending.callback(cluster.stop)
            for network in [] if kept else self.networks:
                ending.callback(network.close)
            self.networks.clear()
            self._clusters.clear()

    def _reverts(self, requested: bool | None) -> bool:  # noqa: FBT001 - a value that is passed on
        if self._revert is not None:
            return self._revert if requested is None else requested
        if requested:
            raise InvalidError(
                "cannot revert a machine between tests",
                why="it belongs to one test",
                todo="Use a fixture for several tests, such as core_vm_module.",
            )
        return False

    def _faults(self, machine: Machine) -> list[MachineFault]:
        """The faults that began during the current test."""
        since = self._since_when[machine]
        return [fault for fault in machine.last_faults() if fault.began >= since]

    def _has_run(self, machine: Machine) -> bool:
        began = self._since_when[machine]
        return any(step.began >= began for step in record_of(machine).timeline.since(began))

    def _is_kept(self, machine: Machine) -> bool:
        keep = self._starter.settings.keep
        wanted = keep == "always" or (keep == "failed" and self._failed)
        return wanted and machine.status in (Status.RUNNING, Status.PAUSED)

    def _copy_log(self, machine: Machine) -> str:
        """Copy the console log to a place where it stays; return a note about it."""
        try:
            if self._logs is None:
                self._logs = self._new_directory()
            target = self._logs / f"{machine.name}-console.log"
            shutil.copyfile(machine.directory / "console.log", target)
        except FAILURES as error:
            return f"it could not be copied: {error}"
        return f"{ALL_OF_IT}{target}"

    def _new_directory(self) -> Path:
        # Not by mktemp(): a test may have patched what it uses.
        base = re.sub(r"\W", "_", self.owner.name)[:30]
        for number in itertools.count():
            directory = Path(self._tmp_path_factory.getbasetemp(), f"{base}-machines{number}")
            with contextlib.suppress(FileExistsError):
                directory.mkdir()
                break
        return directory
