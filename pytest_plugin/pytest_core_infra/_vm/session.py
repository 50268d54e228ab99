"""The hooks of a run with ``--core-vm``: when machines are made, reported and ended."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import CoreInfraError
from core_infra.vm import _timeouts
from core_infra.vm._cluster import Cluster
from core_infra.vm._run_directory import RunDirectory
from pytest_core_infra._reports import FAILURES, guarded
from pytest_core_infra._vm import entering, evidence, github, marker, reporting
from pytest_core_infra._vm.failed_preparations import FailedPreparations
from pytest_core_infra._vm.machines import Machines
from pytest_core_infra._vm.registry import MachineRegistry
from pytest_core_infra._vm.settings import read_settings

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator, Sequence

    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_state import Ending
    from pytest_core_infra._vm.factory import MachineFactory
    from pytest_core_infra._vm.live_board import LiveBoard
    from pytest_core_infra._vm.networks import NetworkFactory
    from pytest_core_infra._vm.owned_machines import OwnedMachines

_CAPSULE = pytest.StashKey[bool]()
"""Whether a test has left a capsule."""

_OUTPUT = "core_infra_vm"
"""The key of the summary that a pytest-xdist worker sends to the controller."""

_EVERYTHING = 2
"""The verbosity, -vv, at which reports are not shortened."""

_WITHOUT_TESTS = (
    "cacheshow",
    "collectonly",
    "setupplan",
    "showfixtures",
    "show_fixtures_per_test",
)
"""Options of pytest with which no test runs."""


class VmSession:
    """The plugin that ``--core-vm`` registers.

    Args:
        config: the config of the run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_worker = hasattr(config, "workerinput")  # of pytest-xdist
        settings = read_settings(config)
        self._machines = Machines(
            settings,
            processes=int(config.workerinput["workercount"]) if self._is_worker else 1,  # type: ignore[attr-defined] # xdist's
            progress=self._say,
            ending=self._ending_of,
            terminal=self._terminal,
        )
        self._trace, self._trace_disks = settings.trace, settings.trace_disks
        self._report, self._shows_board = settings.report, settings.live
        self._board: LiveBoard | None = None
        self._capsules = 0  # that have machines
        self._enters = settings.enter and not self._is_worker  # until it has
        if self._enters:
            entering.check_enter(config)
        self._registry = MachineRegistry(config, self._machines, revert=settings.revert)
        self._failed_preparations = FailedPreparations()
        self._header: list[str] | None = None

    # What the fixtures call.

    def factory(self, item: pytest.Item) -> MachineFactory:
        """The factory of a test's own machines."""
        return self._registry.of_test(item).factory

    def shared_factory(self, request: pytest.FixtureRequest) -> MachineFactory:
        """The factory of a fixture that several tests share."""
        return self._registry.of_fixture(request).factory

    def networks(self, item: pytest.Item) -> NetworkFactory:
        """The factory of a test's own networks."""
        return self._registry.of_test(item).network_factory

    def shared_networks(self, request: pytest.FixtureRequest) -> NetworkFactory:
        """The factory of networks that several tests share."""
        return self._registry.of_fixture(request).network_factory

    def prepare(
        self, prepare: Callable[[Machine], object], **options: Any
    ) -> Callable[..., Machine]:
        """Prepare a machine; return a function that starts clones of it for the current test.

        Args:
            prepare: called with a fresh machine.
            options: arguments of :meth:`Machines.prepare`.
        """
        start = self._machines.prepare(prepare, on_failure=self._preparation_failed, **options)

        def clone(name: str | None = None) -> Machine:
            return self._registry.current().add(start(name))

        return clone

    def prepare_cluster(self, prepare: Callable[[Cluster], object]) -> Callable[..., Cluster]:
        """Prepare a cluster; return a function that makes copies of it for the current test."""
        copy = self._machines.prepare_cluster(prepare, on_failure=self._preparation_failed)

        def make(name: str | None = None) -> Cluster:
            return self._registry.current().add_cluster(copy(name))

        return make

    def make_image(
        self, image: Bootable | str | os.PathLike[str] | None = None, **options: Any
    ) -> Bootable:
        """Make an image; the arguments are those of ``Launcher.make_image``."""
        return self._machines.launcher.make_image(image, **options)

    def _preparation_failed(self, machines: Machine | Cluster, error: BaseException) -> None:
        several = machines if isinstance(machines, Cluster) else [machines]
        owned = self._registry.for_failed_preparation(several)
        if owned is not None:  # else there is no report to show it in
            self._machines.summary.unprepared += 1
            self._failed_preparations.add(error, owned)
            owned.release()

    # The hooks, in the order of a run.

    def pytest_report_header(self) -> list[str]:
        """Show what runs the machines."""
        return [] if self._is_idle else self._start()

    def pytest_sessionstart(self) -> None:
        """Find out what runs the machines, before tests are collected; once, for all workers.

        Raises:
            pytest.UsageError: no machine can run here; ends the run with this one message.
        """
        if not (self._is_worker or self._is_idle):
            facts = self._start()
            if self._report is not None:
                from pytest_core_infra._vm.suite_page import SuitePage  # noqa: PLC0415 - if used

                page = SuitePage(self._report, facts)
                self._config.pluginmanager.register(page, "core_infra_suite_page")
            if self._shows_board:
                from pytest_core_infra._vm.live_board import show_board  # noqa: PLC0415 - if used

                self._board = show_board(self._config, self._registry.in_use)

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> list[str]:
        """Show which tests request machines that are open to the outside."""
        found = [item.nodeid for item in items if marker.is_open(item)]
        return [] if self._is_idle else reporting.not_hermetic(found)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Boot and save what the collected tests' machines are cloned from.

        So this does not count as the time of a test. One worker does it, the others wait.
        """
        interrupted = session.testsfailed and not self._config.option.continue_on_collection_errors
        if not (self._is_idle or interrupted):
            self._registry.paths.getbasetemp()  # made now, before a test can patch what makes it
            for kind in marker.requested_by_all(session.items):
                self._machines.save_for_clones(**kind)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Note which test runs."""
        with self._registry.running(item, nextitem):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Note which fixture is being set up."""
        with self._registry.setting_up(request):
            return (yield)

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[object]) -> None:
        """Note that a fixture was torn down."""
        self._registry.fixture_changed(fixturedef.scope)

    @pytest.fixture(autouse=True)
    def _core_vm_between_tests(self, request: pytest.FixtureRequest) -> Generator[None]:
        """Revert shared machines after each test, if that is requested."""
        # The first of a test's own fixtures, so it is torn down as the last of them.
        self._registry.before_test()
        yield
        self._registry.after_test(request.node)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Complete the report of a failed test; after its teardown, end its machines."""
        report = yield
        own, shared = self._registry.used_by(item)
        used = [*([] if own is None else [own]), *shared]
        if report.failed:
            guarded(report, "describe machines", lambda: self._describe(item, call, used, report))
        elif report.when == "call" and self._trace == "on":
            known = [one for owned in used for one in owned.evidence()]
            networks = self._network_evidence(used)
            report.sections += self._capsule(item, call, used, known, report, networks=networks)
        if report.when == "teardown":
            self._machines.moments.clear()
            if uses := [use for owned in used for use in owned.uses()]:
                accelerator = self._machines.launcher.accelerator.name
                report.user_properties += reporting.properties(uses, accelerator)
            self._end(self._registry.take_ended(item), report)
        return report

    def _describe(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
        owners: list[OwnedMachines],
        report: pytest.TestReport,
    ) -> None:
        machines = [one for owned in owners for one in owned.evidence()]
        networks = self._network_evidence(owners)
        capsule = self._capsule(item, call, owners, machines, report, networks=networks)
        prepared, references = self._failed_preparations.evidence(call)
        found = evidence.sections(
            [*machines, *prepared],
            networks,
            began=self._registry.began,
            clock=self._registry.began_clock,
            everything=self._config.get_verbosity() >= _EVERYTHING,
        )
        item.user_properties += evidence.properties(machines, began=self._registry.began)
        # Before what pytest has captured, which matters less.
        if self._enters and machines:
            self._enters = False
            with self._terminal():
                running = [one for owned in owners for one in owned.machines]
                entering.enter(report, running, machines, self._registry.began)
        report.sections[:0] = [*found, *references, *capsule]

    def _network_evidence(self, owners: list[OwnedMachines]) -> list[evidence.NetworkEvidence]:
        since = self._registry.began
        return [one for owned in owners for one in owned.network_evidence(since)]

    def _capsule(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
        owners: list[OwnedMachines],
        known: list[evidence.Evidence],
        report: pytest.TestReport,
        *,
        networks: list[evidence.NetworkEvidence],
    ) -> list[evidence.Section]:
        """Write the capsule of a test once, for the first of its phases that fails."""
        machines = [one for owned in owners for one in owned.machines]
        if self._trace == "off" or not machines or item.stash.get(_CAPSULE, False):
            return []
        from pytest_core_infra._vm import capsules  # noqa: PLC0415 - only after a failure

        with_states = self._capsules < capsules.MOST_STATES
        moments = self._machines.moments.kept() if with_states else []
        try:
            path, has_machine = capsules.write(
                item,
                call,
                report,
                list(zip(machines, known, strict=True)),
                self._machines.launcher,
                networks=networks,
                began=self._registry.began,
                clock=self._registry.began_clock,
                moments=moments,
                with_states=with_states,
                whole=self._trace_disks,
            )
        except FAILURES as error:
            return [(capsules.TITLE, f"it could not be written: {error}")]
        item.stash[_CAPSULE] = True
        self._capsules += has_machine or bool(moments)
        item.user_properties.append(("core_vm_capsule", str(path)))
        return [capsules.section(path, has_machine=has_machine, moments=moments)]

    def _end(self, ended: Sequence[OwnedMachines], report: pytest.TestReport) -> None:
        labels = [owned.owner.label for owned in ended]
        for owned in ended:
            if not guarded(report, f"end the machines of {owned.owner.label}", owned.release):
                report.outcome = "failed"
        if labels:
            guarded(report, "look for leaks", lambda: self._report_leaks(labels, report))

    def _report_leaks(self, owners: list[str], report: pytest.TestReport) -> None:
        leaks = self._machines.launcher.leaks()
        if leaks and report.passed:
            report.outcome = "failed"
            head = f"the machines of {' and '.join(owners)} left something behind:"
            report.longrepr = "\n".join([head, *leaks])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """End what an interrupted run has left; send the summary to pytest-xdist's controller."""
        while self._registry.ended:
            self._registry.ended.pop().release()
        if self._is_worker:
            output: dict[str, Any] = self._config.workeroutput  # type: ignore[attr-defined] # xdist's
            output[_OUTPUT] = self._machines.summary.as_data()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add the summary of a worker; a worker that crashed has none."""
        data = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if data is not None:
            self._machines.summary.add(data)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show how many machines there were, and which still run."""
        if not self._is_idle:
            accelerator = self._machines.launcher.accelerator.name
            self._machines.summary.write(terminalreporter, accelerator)
            github.annotate(terminalreporter)

    def pytest_unconfigure(self) -> None:
        """End all machines, however the run ended."""
        try:
            self._machines.close()
        except FAILURES as error:
            self._say(f"could not end machines: {type(error).__name__}: {error}")
        if self._config.pluginmanager.has_plugin("dsession"):
            # An interrupted worker of pytest-xdist ends at once. Making a run directory removes
            # what dead runs have left.
            RunDirectory().close()

    @contextlib.contextmanager
    def _terminal(self) -> Iterator[None]:
        """Within the block, this process's terminal can be used."""
        with contextlib.ExitStack() as stack:
            if self._board is not None:
                stack.enter_context(self._board.hidden())
            stack.enter_context(entering.real_terminal(self._config))
            yield

    @property
    def _is_idle(self) -> bool:
        return any(getattr(self._config.option, name, False) for name in _WITHOUT_TESTS)

    def _start(self) -> list[str]:
        """Remove what dead runs left, find the image and the accelerator; return the header."""
        if self._header is None:
            try:
                _timeouts.factor()  # a wrong one is reported now, not by the first test that waits
                self._header = reporting.host(self._machines.launcher)
            except CoreInfraError as error:
                raise pytest.UsageError(f"no machine can run: {error}") from None
            if self._config.getoption("verbose") < 0:  # there is no header to show it in
                for line in reporting.swept(self._machines.launcher):
                    self._say(line.removeprefix("core_vm: "))
        return self._header

    def _ending_of(self, machine: Machine) -> Ending | None:
        return self._registry.ending_of(machine)

    def _say(self, line: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        notes = self._machines.summary.notes
        if reporter is not None:
            reporter.write_line(f"core_vm: {line}")
        elif self._registry.item is not None and line not in notes:  # in a worker
            notes.append(line)
