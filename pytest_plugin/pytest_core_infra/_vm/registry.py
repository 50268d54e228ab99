"""Which test and fixtures run now, and the machines that belong to them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from core_infra._unpatched import time
from pytest_core_infra._vm import marker
from pytest_core_infra._vm.owned_machines import OwnedMachines
from pytest_core_infra._vm.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_state import Ending
    from pytest_core_infra._vm.owned_machines import MachineStarter

_OWN = pytest.StashKey[OwnedMachines]()
"""Where a test has its own machines."""


class MachineRegistry:
    """The machines of this process by owner: a test, or a fixture that several tests share.

    Args:
        config: the config of the run.
        machines: starts and ends the machines.
        revert: whether shared machines are reverted after each test, by default.

    Attributes:
        item: the test that runs; None between tests.
        began: when that test began, on ``time.monotonic``.
        began_clock: the same in seconds since 1970.
        ended: the machines of fixtures whose scope has ended, until the report of the last test.
    """

    def __init__(self, config: pytest.Config, machines: MachineStarter, *, revert: bool) -> None:
        self.item: pytest.Item | None = None
        self.began = self.began_clock = 0.0
        self.ended: list[OwnedMachines] = []
        self._config = config
        self._machines = machines
        self._revert = revert
        self._next: pytest.Item | None = None
        self._requests: list[pytest.FixtureRequest] = []  # of the fixtures that are being set up
        self._shared: list[OwnedMachines] = []

    @property
    def paths(self) -> pytest.TempPathFactory:
        """The factory of the run's temporary directories."""
        return self._config._tmp_path_factory  # type: ignore[attr-defined,no-any-return] # noqa: SLF001

    def of_test(self, item: pytest.Item) -> OwnedMachines:
        """The machines of a test."""
        if _OWN not in item.stash:
            requested = marker.requested(item)
            requested.pop("revert", None)  # for machines that this test shares
            item.stash[_OWN] = self._new(Owner(item), requested)
        return item.stash[_OWN]

    def of_fixture(self, request: pytest.FixtureRequest) -> OwnedMachines:
        """The machines of a fixture that several tests share; they end with the fixture."""
        owner = Owner(request.node, request.fixturename or "")
        for owned in self._shared:
            if owned.owner == owner:
                return owned
        item = request._pyfuncitem  # noqa: SLF001 - node is what the machine is shared by
        requested = marker.requested(item, scope=request.scope)
        revert = requested.pop("revert", self._revert)
        owned = OwnedMachines(self._machines, owner, requested, self.paths, revert=revert)
        self._shared.append(owned)

        def end() -> None:
            self._shared.remove(owned)
            self.ended.append(owned)

        request.addfinalizer(end)
        return owned

    def current(self) -> OwnedMachines:
        """The machines of the fixture that is being set up, if tests share it; else of the test."""
        if self._requests and self._requests[-1].scope != "function":
            return self.of_fixture(self._requests[-1])
        if self.item is None:
            raise RuntimeError("a prepared machine is cloned by a test, and none runs")
        return self.of_test(self.item)

    def for_failed_preparation(self, machines: Iterable[Machine]) -> OwnedMachines | None:
        """The owner of machines whose preparation failed, with them; None between tests."""
        if self.item is None:
            return None
        owner = Owner(self.item)
        if self._requests:
            owner = Owner(self._requests[-1].node, self._requests[-1].fixturename or "")
        owned = self._new(owner, {})
        for machine in machines:
            owned.add(machine)
        return owned

    def used_by(self, item: pytest.Item) -> tuple[OwnedMachines | None, list[OwnedMachines]]:
        """The machines of a test, and those that it shares with other tests and has used."""
        shared = [one for one in (*self.ended, *self._shared) if one.is_used_by(item)]
        return item.stash.get(_OWN, None), shared

    def in_use(self) -> list[Machine]:
        """The machines of the test that runs, and those that tests share; for any thread."""
        item = self.item
        own = None if item is None else item.stash.get(_OWN, None)
        owners = [*([] if own is None else [own]), *self._shared]
        return [machine for owned in owners for machine in list(owned.machines)]

    def take_ended(self, item: pytest.Item) -> list[OwnedMachines]:
        """Return, and forget, the machines that end after a test."""
        own = item.stash.get(_OWN, None)
        if own is not None:
            del item.stash[_OWN]
        taken = [*([] if own is None else [own]), *self.ended]
        self.ended.clear()
        return taken

    def ending_of(self, machine: Machine) -> Ending | None:
        """Who ends a machine now, for its errors."""
        if self.item is None:
            return None
        own = self.item.stash.get(_OWN, None)
        for owned in (*self._shared, *self.ended, *([] if own is None else [own])):
            if machine in owned.machines:
                request = self._requests[-1] if self._requests else None
                return owned.owner.interrupted_by(request)
        return None

    @contextlib.contextmanager
    def running(self, item: pytest.Item, following: pytest.Item | None) -> Iterator[None]:
        """Within the block, a test runs."""
        self.item, self._next = item, following
        self.began, self.began_clock = time.monotonic(), time.time()
        self._machines.moments.clear()
        for owned in self._shared:
            owned.start_report()
        try:
            yield
        finally:
            self.item = None

    @contextlib.contextmanager
    def setting_up(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """Within the block, a fixture is set up."""
        self._requests.append(request)
        try:
            yield
        finally:
            self._requests.pop()
            self.fixture_changed(request.scope)

    def fixture_changed(self, scope: str) -> None:
        """A fixture was set up or torn down: a revert must not undo what a shared one did."""
        if scope != "function" and self.item is not None:
            for owned in self._shared:
                if owned.is_used_by(self.item):
                    owned.forget_snapshots()

    def before_test(self) -> None:
        """Save the state that shared machines are reverted to after the test."""
        for owned in self._shared:
            owned.before_test()

    def after_test(self, item: pytest.Item) -> None:
        """Revert shared machines that the test has used and a later test may use."""
        with contextlib.ExitStack() as ending:
            for owned in self._shared:
                if owned.owner.outlives(self._next) and owned.is_used_by(item):
                    ending.callback(owned.after_test)
                ending.callback(owned.heal)

    def _new(self, owner: Owner, requested: dict[str, object]) -> OwnedMachines:
        return OwnedMachines(self._machines, owner, requested, self.paths)
