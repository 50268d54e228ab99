"""Which test and fixtures run now, and the factories of their machines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from pytest_core_infra._vm import marker
from pytest_core_infra._vm.factory import MachineFactory
from pytest_core_infra._vm.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_lifecycle import Ending
    from pytest_core_infra._vm.factory import MachineStarter

_FACTORY = pytest.StashKey[MachineFactory]()
"""Where a test has its own factory."""


class FactoryRegistry:
    """The factories of the machines of this process: one for each test, and one for each fixture
    that several tests share.

    Args:
        config: the config of the run.
        machines: starts and ends the machines.
        revert: whether shared machines are reverted after each test, by default.

    Attributes:
        item: the test that runs; None between tests.
        ended: factories of fixtures whose scope has ended, until the report of the last test.
    """  # noqa: D205 - one sentence

    def __init__(self, config: pytest.Config, machines: MachineStarter, *, revert: bool) -> None:
        self.item: pytest.Item | None = None
        self.ended: list[MachineFactory] = []
        self._config = config
        self._machines = machines
        self._revert = revert
        self._next: pytest.Item | None = None
        self._requests: list[pytest.FixtureRequest] = []  # of the fixtures that are being set up
        self._shared: list[MachineFactory] = []

    @property
    def paths(self) -> pytest.TempPathFactory:
        """The factory of the run's temporary directories."""
        return self._config._tmp_path_factory  # type: ignore[attr-defined,no-any-return] # noqa: SLF001

    def of_test(self, item: pytest.Item) -> MachineFactory:
        """The factory of a test's own machines, made at first use."""
        if _FACTORY not in item.stash:
            requested = marker.requested(item)
            requested.pop("revert", None)  # for machines that this test shares
            item.stash[_FACTORY] = self._new(Owner(item), requested)
        return item.stash[_FACTORY]

    def of_fixture(self, request: pytest.FixtureRequest) -> MachineFactory:
        """The factory of a fixture that several tests share; it ends with the fixture."""
        owner = Owner(request.node, request.fixturename or "")
        for factory in self._shared:
            if factory.owner == owner:
                return factory
        item = request._pyfuncitem  # noqa: SLF001 - node is what the machine is shared by
        requested = marker.requested(item, scope=request.scope)
        revert = requested.pop("revert", self._revert)
        factory = MachineFactory(self._machines, owner, requested, self.paths, revert=revert)
        self._shared.append(factory)

        def end() -> None:
            self._shared.remove(factory)
            self.ended.append(factory)

        request.addfinalizer(end)
        return factory

    def current(self) -> MachineFactory:
        """The factory of the fixture that is being set up, if tests share it; else of the test."""
        if self._requests and self._requests[-1].scope != "function":
            return self.of_fixture(self._requests[-1])
        if self.item is None:
            raise RuntimeError("a prepared machine is cloned by a test, and none runs")
        return self.of_test(self.item)

    def for_failed_preparation(self, machine: Machine) -> MachineFactory | None:
        """A factory that describes a machine whose preparation failed; None between tests."""
        if self.item is None:
            return None
        owner = Owner(self.item)
        if self._requests:
            owner = Owner(self._requests[-1].node, self._requests[-1].fixturename or "")
        factory = self._new(owner, {})
        factory.add(machine)
        return factory

    def used_by(self, item: pytest.Item) -> tuple[MachineFactory | None, list[MachineFactory]]:
        """The factory of a test, and those that it shares with other tests and has used."""
        shared = [one for one in (*self.ended, *self._shared) if one.is_used_by(item)]
        return item.stash.get(_FACTORY, None), shared

    def take_ended(self, item: pytest.Item) -> list[MachineFactory]:
        """Return, and forget, the factories whose machines end after a test."""
        own = item.stash.get(_FACTORY, None)
        if own is not None:
            del item.stash[_FACTORY]
        taken = [*([] if own is None else [own]), *self.ended]
        self.ended.clear()
        return taken

    def ending_of(self, machine: Machine) -> Ending | None:
        """Who ends a machine now, for its errors."""
        if self.item is None:
            return None
        own = self.item.stash.get(_FACTORY, None)
        for factory in (*self._shared, *self.ended, *([] if own is None else [own])):
            if machine in factory.machines:
                request = self._requests[-1] if self._requests else None
                return factory.owner.interrupted_by(request)
        return None

    @contextlib.contextmanager
    def running(self, item: pytest.Item, following: pytest.Item | None) -> Iterator[None]:
        """Within the block, a test runs."""
        self.item, self._next = item, following
        for factory in self._shared:
            factory.start_report()
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
            for factory in self._shared:
                if factory.is_used_by(self.item):
                    factory.forget_snapshots()

    def before_test(self) -> None:
        """Save the state that shared machines are reverted to after the test."""
        for factory in self._shared:
            factory.before_test()

    def after_test(self, item: pytest.Item) -> None:
        """Revert shared machines that the test has used and a later test may use."""
        for factory in self._shared:
            if factory.owner.outlives(self._next) and factory.is_used_by(item):
                factory.after_test()

    def _new(self, owner: Owner, requested: dict[str, object]) -> MachineFactory:
        return MachineFactory(self._machines, owner, requested, self.paths)
