"""The fixtures ``core_process…`` and ``core_runner``, their marker and their option."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_core_infra._markers import Argument, mark_mistakes, report_mistakes
from pytest_core_infra._reports import guarded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from _pytest.nodes import Node

    from core_infra.process import Runner
    from core_infra.process._process import Process
    from core_infra.process._service import Service
    from pytest_core_infra._scoped_processes import ProcessesOfScope, ScopedProcesses


_MARKER = "core_process"
_ARGUMENTS = {"allow_leftovers": Argument((bool,), "True or False")}
_OPTION = "--core-process-allow-leftovers"
_LINES = 50
_SERVICE = pytest.StashKey["Service"]()
_SCOPED = pytest.StashKey["ScopedProcesses"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--core-process-allow-leftovers``."""
    parser.getgroup("core-infra").addoption(
        _OPTION,
        action="store_true",
        help="end processes that tests leave running in core_process, without failing the tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(allow_leftovers=True): processes that this test leaves running in core_process "
        "are ended without failing it.",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Report wrong markers."""
    for item in items:
        marks = item.iter_markers(_MARKER)
        if mistakes := [text for mark in marks for text in mark_mistakes(mark, _ARGUMENTS)]:
            report_mistakes(item, mistakes)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell the workers of pytest-xdist which run they belong to."""
    if hasattr(node.config, "_tmp_path_factory"):
        from pytest_core_infra._run_lifetime import invite  # noqa: PLC0415 - imported only if it is used

        invite(node.config, node.workerinput)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the programs that workers share."""
    if (lifetime := sys.modules.get("pytest_core_infra._run_lifetime")) is not None:
        lifetime.end_run(session.config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test if a shared process has ended; note what shared processes have written."""
    for scoped in _scoped(item):
        scoped.start_test()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the output of processes in the report of a failed test."""
    report = yield
    if report.failed and report.when != "teardown":
        item.stash[_FAILED] = True
        guarded(report, "show the output of processes", lambda: _add_sections(report, item))
    return report


def _add_sections(report: pytest.TestReport, item: pytest.Item) -> None:
    if (service := item.stash.get(_SERVICE, None)) is not None:
        report.sections += [_section(process) for process in service.list()]
    for scoped in _scoped(item):
        report.sections += [
            _section(process, scoped.written(process))
            for process in scoped.service.list()
            if not process.options.detach
        ]
        report.sections += scoped.shared_sections()


def _scoped(item: pytest.Item) -> list[ScopedProcesses]:
    """The shared processes that a test uses."""
    names = getattr(item, "fixturenames", ())
    found = [node.stash.get(_SCOPED, None) for node in item.listchain()]
    return [one for one in found if one is not None and one.fixture in names]


_FAILED = pytest.StashKey[bool]()


@pytest.fixture
def core_process(request: pytest.FixtureRequest) -> Iterator[Service]:
    """Starts programs for this test; all of them have ended after it, even daemons.
    ``run(command, *args)`` returns the output of a program, ``start(command, *args)`` a process:
    ``wait_ready(TcpPort(8080))``, ``output()``, ``send_input(text)``, ``signal(number)``,
    ``stop()``, ``kill()``, ``wait(timeout)``. ``…_with_options(RunOptions(…))`` takes a timeout, a
    directory, an environment, a pty, …. If the test also uses ``core``, its bus receives events.
    A process that still runs at the end fails the test, with its command and last lines.
    ``@pytest.mark.core_process(allow_leftovers=True)``, or ``--core-process-allow-leftovers`` for
    all tests, only ends it. The report of a failed test shows the output of its processes.

    Example::

        from core_infra.process import Service, TcpPort

        def test_server(core_process: Service) -> None:
            server = core_process.start("python3", "-m", "http.server", "8080")
            server.wait_ready(TcpPort(8080))
            ...
            server.stop()
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    from core_infra.process._service import Service  # noqa: PLC0415 - imported only if it is used

    core = request.getfixturevalue("core") if "core" in request.fixturenames else None
    node = request.node
    with Service(core) as service:
        node.stash[_SERVICE] = service
        yield service
        leftovers = [] if _may_leave(node) else service.leftovers()
    del node.stash[_SERVICE]
    if leftovers:
        lines = "\n".join(leftover.describe() for leftover in leftovers)
        pytest.fail(
            f"the test has left running (it is ended now):\n{lines}\n"
            "End it in the test: stop() or kill(). If core_process is meant to end it, use "
            f"@pytest.mark.{_MARKER}(allow_leftovers=True).",
            pytrace=False,
        )


@pytest.fixture(scope="class")
def core_process_class(request: pytest.FixtureRequest) -> Iterator[ProcessesOfScope]:
    """Starts programs for the tests of a class; otherwise like ``core_process_session``."""
    yield from _of_scope(request)


@pytest.fixture(scope="module")
def core_process_module(request: pytest.FixtureRequest) -> Iterator[ProcessesOfScope]:
    """Starts programs for the tests of a module; otherwise like ``core_process_session``."""
    yield from _of_scope(request)


@pytest.fixture(scope="session")
def core_process_session(request: pytest.FixtureRequest) -> Iterator[ProcessesOfScope]:
    """Starts programs for all tests, such as a server; otherwise like ``core_process``.
    Programs that still run at the end are stopped. A daemon that a program has left behind fails
    the run. The report of a failed test shows what they have written during the test.
    ``shared(name, start, ready)`` starts a program once for all workers of pytest-xdist: ``start``
    is ``RunOptions``, or a ``Start`` with facts for the other workers, or a function that returns
    one of these. It ends with the run. If it ends too early, each test that uses it fails.

    Example::

        from core_infra.process import LogPattern, RunOptions

        @pytest.fixture(scope="session")
        def server(core_process_session):
            start = RunOptions("python3", ["-u", "-m", "http.server", "0"])
            ready = LogPattern(r"port (?P<port>[0-9]+)")
            return core_process_session.shared("server", start, ready)

        def test_it(server): urlopen(f"http://127.0.0.1:{server['port']}/")
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    yield from _of_scope(request)


def _of_scope(request: pytest.FixtureRequest) -> Iterator[ProcessesOfScope]:
    from pytest_core_infra._scoped_processes import (  # noqa: PLC0415 - imported only if it is used
        ProcessesOfScope,
        ScopedProcesses,
    )

    node = request.node
    with ProcessesOfScope(request) as service:
        node.stash[_SCOPED] = scoped = ScopedProcesses(service, str(request.fixturename))
        yield service
        leftovers = [] if _may_leave(node) else scoped.leftovers()
    del node.stash[_SCOPED]
    if leftovers:
        lines = "\n".join(leftover.describe() for leftover in leftovers)
        pytest.fail(
            f"programs of {scoped.fixture} of {node.nodeid or 'the session'} have left running "
            f"(it is ended now):\n{lines}",
            pytrace=False,
        )


def _may_leave(node: Node) -> bool:
    if node.stash.get(_FAILED, False) or node.config.getoption(_OPTION):
        return True  # a failed test has not reached its end
    mark = node.get_closest_marker(_MARKER)
    return mark is not None and bool(mark.kwargs.get("allow_leftovers", False))


def _section(process: Process, offset: int = 0) -> tuple[str, str]:
    """The output of a process from an offset on, as a section of a report."""
    title = f"{process.id}: {shlex.join(process.options.argv())} ({process.status})"
    lines = process.read(offset).data.decode(errors="replace").splitlines()
    omitted = [f"… {len(lines) - _LINES} lines before"] if len(lines) > _LINES else []
    return title, "\n".join([*omitted, *lines[-_LINES:]]) or "it has written nothing"


@pytest.fixture
def core_runner(core_process: Service) -> Runner:
    """Runs specs in dependency order, as processes of the test's ``core_process``.
    ``run_all(specs)`` starts each spec as soon as its dependencies have passed;
    ``run_sequential(specs)`` runs them in the given order and stops at the first failure;
    ``run_parallel(specs)`` starts all at once. The result has ``success``, ``passed``, ``failed``,
    ``skipped`` and the result of each spec by name: ``result["build"].output``.

    Example::

        from core_infra.process import Runner, RunSpec

        def test_build(core_runner: Runner) -> None:
            result = core_runner.run_all([
                RunSpec("build", "make"),
                RunSpec("test", "./test.sh", after=["build"], timeout=60),
            ])
            assert result.success
    """  # noqa: D205 - pytest --fixtures shows the text before the first empty line
    from core_infra.process import Runner  # noqa: PLC0415 - imported only if it is used

    return Runner(core_process)
