"""The part of the plugin that ``--core-vm`` loads: one launcher per process, and what it did."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import CoreInfraError, InvalidError
from core_infra.vm import _timeouts
from core_infra.vm._images.linuxkit.assembly import template_image
from core_infra.vm._launcher import Launcher
from core_infra.vm._run_directory import RunDirectory
from pytest_core_infra._reports import FAILURES, guarded
from pytest_core_infra._vm import describe, marker
from pytest_core_infra._vm.factory import FACTORY, MachineFactory
from pytest_core_infra._vm.owner import Owner
from pytest_core_infra._vm.preparing import Preparations
from pytest_core_infra._vm.settings import read_settings
from pytest_core_infra._vm.tally import Tally
from pytest_core_infra._vm.wanted import wanted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Mapping

    from core_infra.vm._images.image import Bootable
    from core_infra.vm._machine import Machine
    from core_infra.vm._machine_lifecycle import Ending

_OUTPUT = "core_infra_vm"
"""The key of what a pytest-xdist worker tells the controller at its end."""

_WITHOUT_TESTS = (
    "cacheshow",
    "collectonly",
    "setupplan",
    "showfixtures",
    "show_fixtures_per_test",
)


class VmSession:
    """Runs the machines of this process's tests, and tells the user about them.

    Attributes:
        settings: what the options ask for.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.settings = read_settings(config)
        self._config = config
        self._tally = Tally()
        self._launcher: Launcher | None = None
        self._header: list[str] | None = None
        self._item: pytest.Item | None = None
        self._next: pytest.Item | None = None
        self._requests: list[pytest.FixtureRequest] = []  # of the fixtures that are being set up
        self._shared: list[MachineFactory] = []
        self._retired: list[MachineFactory] = []  # their scope is over, their test not quite
        self._preparations = Preparations()
        self._is_worker = hasattr(config, "workerinput")  # of pytest-xdist

    @property
    def launcher(self) -> Launcher:
        """The launcher of this process, made at first use."""
        if self._launcher is None:
            self._launcher = Launcher(
                accelerator=self.settings.accelerator,
                image=self.settings.image,
                memory=self.settings.memory,
                cpus=self.settings.cpus,
                cpu=self.settings.cpu,
                arch=self.settings.arch,
                outlive=self.settings.keep != "never",
                processes=self._processes,
                progress=self._say,
                witness=self._witness,
            )
        return self._launcher

    def factory(self, item: pytest.Item) -> MachineFactory:
        """The factory of a test's machines, always the same one."""
        if FACTORY not in item.stash:
            asked_for = marker.asked_for(item)
            asked_for.pop("revert", None)  # meant for a machine that this test shares
            item.stash[FACTORY] = MachineFactory(self, Owner(item), asked_for, self._paths)
        return item.stash[FACTORY]

    def shared_factory(self, request: pytest.FixtureRequest) -> MachineFactory:
        """The factory of the machines of a fixture that several tests share; it goes with it."""
        owner = Owner(request.node, request.fixturename or "")
        for factory in self._shared:
            if factory.owner == owner:
                return factory
        item = request._pyfuncitem  # noqa: SLF001 - node is what the machine is shared by
        asked_for = marker.asked_for(item, scope=request.scope)
        revert = asked_for.pop("revert", self.settings.revert)
        factory = MachineFactory(self, owner, asked_for, self._paths, revert=revert)
        self._shared.append(factory)

        def retire() -> None:
            self._shared.remove(factory)
            self._retired.append(factory)

        request.addfinalizer(retire)
        return factory

    def prepare(
        self,
        prepare: Callable[[Machine], object],
        *,
        image: str | os.PathLike[str] | Bootable | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        **chosen: Any,
    ) -> Callable[..., Machine]:
        """Prepare a machine; gives what starts clones of it for the test that runs.

        Args:
            prepare: is given a fresh machine.
            image: what it has booted: an image, or its path.
            template: the name of a template of an image.
            variables: the template's.
            chosen: more arguments of ``Launcher.prepare``.
        """
        self._tally.asked += 1
        found = self._image(image, template, variables)
        prepared = self.launcher.prepare(
            prepare, image=found, on_failure=self._preparation_failed, **chosen
        )

        def clone(name: str | None = None) -> Machine:
            return self._current_factory().add(self._counted(lambda: prepared.clone(name)))

        return clone

    def _preparation_failed(self, machine: Machine, error: BaseException) -> None:
        if self._item is None:
            return  # nobody has a report to show it in
        owner = Owner(self._item)
        if self._requests:
            owner = Owner(self._requests[-1].node, self._requests[-1].fixturename or "")
        machines = MachineFactory(self, owner, {}, self._paths)
        machines.add(machine)
        self._tally.unprepared += 1
        self._preparations.add(error, machines)
        machines.release()

    def _current_factory(self) -> MachineFactory:
        """Of the fixture that is being set up, where tests share it; else of the test."""
        if self._requests and self._requests[-1].scope != "function":
            return self.shared_factory(self._requests[-1])
        if self._item is None:
            raise RuntimeError("a prepared machine is cloned by a test, and none runs")
        return self.factory(self._item)

    def start(
        self,
        *,
        image: str | os.PathLike[str] | Bootable | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        cold: bool | None = None,
        **chosen: Any,
    ) -> Machine:
        """Start a machine.

        Args:
            image: what it boots, or has booted: an image, or its path.
            template: the name of a template of an image.
            variables: the template's.
            cold: boot it; None is what the options say.
            chosen: more arguments of ``Launcher.boot`` and ``Launcher.clone``.
        """
        is_cold = self.settings.cold if cold is None else cold
        start = self.launcher.boot if is_cold else self.launcher.clone
        return self._counted(lambda: start(self._image(image, template, variables), **chosen))

    def _image(
        self,
        image: str | os.PathLike[str] | Bootable | None,
        template: str | None,
        variables: Mapping[str, str] | None,
    ) -> str | os.PathLike[str] | Bootable | None:
        """The requested image, its path, or the image of a template; None is the options'."""
        if template is None:
            return image
        if image is not None:
            raise InvalidError(f"a machine boots either image={image} or template={template!r}")
        return template_image(template, variables or {}, progress=self._say)

    def _counted(self, start: Callable[[], Machine]) -> Machine:
        self._tally.asked += 1
        machine = start()
        self._tally.boots.append(machine.boot_seconds)
        return machine

    def keep(self, machine: Machine, owner: str) -> None:
        """Leave a machine running when this process ends."""
        self.launcher.keep(machine, owner)
        self._tally.kept.append((owner, machine.name, machine.pid))

    def discard(self, machine: Machine, ending: Ending) -> None:
        """End a machine."""
        self.launcher.discard(machine, ending)

    def pytest_report_header(self) -> list[str]:
        """Say what will run the machines."""
        return [] if self._is_idle else self._begin()

    def pytest_sessionstart(self) -> None:
        """Find out what will run the machines, before tests are collected; once, for all workers.

        Raises:
            pytest.UsageError: no machine can run here; ends the run with this one message.
        """
        if not (self._is_worker or self._is_idle):
            self._begin()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Boot and save what the collected tests' machines are cloned from.

        So no test's own time has that in it. Of several workers, one does it and the others wait.
        """
        interrupted = session.testsfailed and not self._config.option.continue_on_collection_errors
        if not (self._is_idle or interrupted):
            self._paths.getbasetemp()  # made now, before a test can patch what makes it
            for kind in wanted(session.items):
                self._save_for_clones(**kind)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Know which test runs."""
        self._item, self._next = item, nextitem
        for factory in self._shared:
            factory.begin_report()
        try:
            return (yield)
        finally:
            self._item = None

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Know which fixture is being set up."""
        self._requests.append(request)
        try:
            return (yield)
        finally:
            self._requests.pop()
            self._shared_fixture_changed(request.scope)

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[object]) -> None:
        """A fixture was torn down."""
        self._shared_fixture_changed(fixturedef.scope)

    def _shared_fixture_changed(self, scope: str) -> None:
        if scope != "function" and self._item is not None:
            for factory in self._shared:
                if factory.is_used_by(self._item):
                    factory.set_stale()

    @pytest.fixture(autouse=True)
    def _core_vm_between_tests(self, request: pytest.FixtureRequest) -> Generator[None]:
        """Take shared machines back after each test, where that is asked for."""
        # It is the first of a test's own fixtures, so it is torn down as the last of them.
        for factory in self._shared:
            factory.before_test()
        yield
        for factory in self._shared:
            if factory.owner.outlives(self._next) and factory.is_used_by(request.node):
                factory.after_test()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Complete the report of a failed test; after its teardown, its machines go."""
        report = yield
        own = [item.stash[FACTORY]] if FACTORY in item.stash else []
        shared = [one for one in (*self._retired, *self._shared) if one.is_used_by(item)]
        if report.failed:
            guarded(
                report,
                "describe machines",
                lambda: self._describe(call, [*own, *shared], report),
            )
        if report.when == "teardown":
            if uses := [use for factory in (*own, *shared) for use in factory.uses()]:
                report.user_properties += describe.properties(uses, self.launcher.accelerator.name)
            if own:
                del item.stash[FACTORY]
            owners = [one.owner.label for one in (*own, *self._retired)]
            for factory in (*own, *self._retired):
                if not guarded(
                    report, f"end the machines of {factory.owner.label}", factory.release
                ):
                    report.outcome = "failed"
            self._retired.clear()
            if owners:
                guarded(report, "look for what is left", lambda: self._report_leaks(owners, report))
        return report

    def _describe(
        self,
        call: pytest.CallInfo[None],
        factories: list[MachineFactory],
        report: pytest.TestReport,
    ) -> None:
        for factory in factories:
            report.sections += factory.sections()
        self._preparations.complete(report, call)

    def _report_leaks(self, owners: list[str], report: pytest.TestReport) -> None:
        _fail_for(self.launcher.leaks(), owners, report)

    def _release_retired(self) -> None:
        while self._retired:
            self._retired.pop().release()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """End what an interrupted run has left; hand the tally to pytest-xdist's controller."""
        self._release_retired()
        if self._is_worker:
            output: dict[str, Any] = self._config.workeroutput  # type: ignore[attr-defined] # xdist's
            output[_OUTPUT] = self._tally.as_data()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take a worker's tally; a worker that crashed has none."""
        data = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if data is not None:
            self._tally.add(data)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell what machines there were, and which are left."""
        if not self._is_idle:
            self._tally.write(terminalreporter, self.launcher.accelerator.name)

    def pytest_unconfigure(self) -> None:
        """End whatever is left, however the run ended."""
        if self._launcher is not None:
            try:
                self._launcher.close()
            except FAILURES as error:
                self._say(f"could not end what is left: {type(error).__name__}: {error}")
        if self._config.pluginmanager.has_plugin("dsession"):
            # A worker of pytest-xdist that is interrupted ends at once; making a run's directory
            # removes what dead runs left.
            RunDirectory().close()

    def _witness(self, machine: Machine) -> Ending | None:
        """Who ends a machine now, for its errors."""
        if self._item is None:
            return None
        own = self._item.stash.get(FACTORY, None)
        for factory in (*self._shared, *self._retired, *([] if own is None else [own])):
            if machine in factory.machines:
                request = self._requests[-1] if self._requests else None
                return factory.owner.interrupted_by(request)
        return None

    @property
    def _paths(self) -> pytest.TempPathFactory:
        return self._config._tmp_path_factory  # type: ignore[attr-defined,no-any-return] # noqa: SLF001

    @property
    def _processes(self) -> int:
        """How many processes of this run start machines."""
        return int(self._config.workerinput["workercount"]) if self._is_worker else 1  # type: ignore[attr-defined] # xdist's

    @property
    def _is_idle(self) -> bool:
        return any(getattr(self._config.option, name, False) for name in _WITHOUT_TESTS)

    def _begin(self) -> list[str]:
        """Sweep what dead runs left, find or make the image and the accelerator; the header."""
        if self._header is None:
            try:
                _timeouts.factor()  # a wrong one is reported now, not by the first test that waits
                self._header = describe.host(self.launcher)
            except CoreInfraError as error:
                raise pytest.UsageError(f"no machine can run: {error}") from None
            if self._config.getoption("verbose") < 0:  # there is no header to say it in
                for line in describe.swept(self.launcher):
                    self._say(line.removeprefix("core_vm: "))
        return self._header

    def _save_for_clones(
        self,
        *,
        image: str | os.PathLike[str] | None = None,
        template: str | None = None,
        variables: Mapping[str, str] | None = None,
        cold: bool | None = None,
        timeout: float | None = None,  # noqa: ARG002 - of what is booted in the test itself
        **sizes: Any,
    ) -> None:
        if self.settings.cold if cold is None else cold:
            return
        with contextlib.suppress(CoreInfraError):  # the tests that ask for it will fail with it
            self.launcher.save_for_clones(self._image(image, template, variables), **sizes)

    def _say(self, line: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"core_vm: {line}")
        elif self._item is not None and line not in self._tally.notes:  # in a worker
            self._tally.notes.append(line)


def _fail_for(leaks: list[str], owners: list[str], report: pytest.TestReport) -> None:
    if leaks and report.passed:
        report.outcome = "failed"
        head = f"the machines of {' and '.join(owners)} left something behind:"
        report.longrepr = "\n".join([head, *leaks])
