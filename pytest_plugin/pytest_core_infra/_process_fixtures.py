"""Processes: the fixture ``core_process``, its marker and its option."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_core_infra._guard import guarded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from _pytest.nodes import Node

    from core_infra.process import Runner
    from core_infra.process._process import Process
    from core_infra.process._service import Service
    from pytest_core_infra._scoped_processes import ProcessesOfScope, ScopedProcesses


_MARKER = "core_process"
_OPTION = "--core-process-allow-leftovers"
_LINES = 50
_SERVICE = pytest.StashKey["Service"]()
_SCOPED = pytest.StashKey["ScopedProcesses"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--core-process-allow-leftovers``."""
    parser.getgroup("core-infra").addoption(
        _OPTION,
        action="store_true",
        help="end what tests leave running of core_process without failing them for it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(allow_leftovers=True): what this test leaves running of core_process is ended "
        "without failing it.",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Have the workers of pytest-xdist know how long the run lasts."""
    if hasattr(node.config, "_tmp_path_factory"):
        from pytest_core_infra._run_lifetime import invite  # noqa: PLC0415 - not in every run

        invite(node.config, node.workerinput)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what the workers have shared."""
    if (lifetime := sys.modules.get("pytest_core_infra._run_lifetime")) is not None:
        lifetime.end_run(session.config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test whose shared process has ended; note what those that it shares have written."""
    for scoped in _scoped(item):
        scoped.begin_test()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test have written."""
    report = yield
    if report.failed and report.when != "teardown":
        item.stash[_FAILED] = True
        guarded(report, "show what processes wrote", lambda: _add_sections(report, item))
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
    """The processes that a test shares with others, and can reach."""
    names = getattr(item, "fixturenames", ())
    found = [node.stash.get(_SCOPED, None) for node in item.listchain()]
    return [one for one in found if one is not None and one.fixture in names]


_FAILED = pytest.StashKey[bool]()


@pytest.fixture
def core_process(request: pytest.FixtureRequest) -> Iterator[Service]:
    """Starts programs for this test; whatever it started is gone after it, also daemons.
    ``run(command, *args)`` returns the output of a program, ``start(command, *args)`` a process:
    ``wait_ready(TcpPort(8080))``, ``output()``, ``send_input(text)``, ``signal(number)``,
    ``stop()``, ``kill()``, ``wait(timeout)``. ``…_with_options(RunOptions(…))`` takes a timeout, a
    directory, an environment, a pty, …. If the test uses ``core``, too, its bus hears of all.
    What still runs at the end of the test fails it, with the command and its last lines.
    ``@pytest.mark.core_process(allow_leftovers=True)``, or ``--core-process-allow-leftovers`` for
    all tests, just ends it. The report of a failed test shows what its processes have written.

    Example::

        from core_infra.process import Service, TcpPort

        def test_server(core_process: Service) -> None:
            server = core_process.start("python3", "-m", "http.server", "8080")
            server.wait_ready(TcpPort(8080))
            ...
            server.stop()
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    from core_infra.process._service import Service  # noqa: PLC0415 - who uses it pays for it

    core = request.getfixturevalue("core") if "core" in request.fixturenames else None
    node = request.node
    with Service(core) as service:
        node.stash[_SERVICE] = service
        yield service
        leftovers = [] if _may_leave(node) else service.leftovers()
    del node.stash[_SERVICE]
    if leftovers:
        told = "\n".join(leftover.describe() for leftover in leftovers)
        pytest.fail(
            f"the test has left running (it is ended now):\n{told}\n"
            "End it in the test: stop() or kill(). If it is meant to be left to core_process, say "
            f"@pytest.mark.{_MARKER}(allow_leftovers=True).",
            pytrace=False,
        )


@pytest.fixture(scope="class")
def core_process_class(request: pytest.FixtureRequest) -> Iterator[ProcessesOfScope]:
    """Starts programs for the tests of a class, as ``core_process_session`` does for all."""
    yield from _of_scope(request)


@pytest.fixture(scope="module")
def core_process_module(request: pytest.FixtureRequest) -> Iterator[ProcessesOfScope]:
    """Starts programs for the tests of a module, as ``core_process_session`` does for all."""
    yield from _of_scope(request)


@pytest.fixture(scope="session")
def core_process_session(request: pytest.FixtureRequest) -> Iterator[ProcessesOfScope]:
    """Starts programs as ``core_process`` does, for all tests: a server that they share.
    What still runs at the end is stopped. What a program that has ended itself has left behind, a
    daemon, fails the run. The report of a failed test shows what they have written meanwhile.
    ``shared(name, start, ready)`` starts a program once for all workers of pytest-xdist: ``start``
    is ``RunOptions``, or a function that returns them, or a ``Start`` with facts for the others.
    It ends with the run. If it ends too early, each test that uses it fails and says so.

    Example::

        from core_infra.process import LogPattern, RunOptions

        @pytest.fixture(scope="session")
        def server(core_process_session):
            start = RunOptions("python3", ["-u", "-m", "http.server", "0"])
            ready = LogPattern(r"port (?P<port>[0-9]+)")
            return core_process_session.shared("server", start, ready)

        def test_it(server): urlopen(f"http://127.0.0.1:{server['port']}/")
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    yield from _of_scope(request)


def _of_scope(request: pytest.FixtureRequest) -> Iterator[ProcessesOfScope]:
    from pytest_core_infra._scoped_processes import (  # noqa: PLC0415 - who uses it pays for it
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
        told = "\n".join(leftover.describe() for leftover in leftovers)
        pytest.fail(
            f"what {scoped.fixture} of {node.nodeid or 'the session'} has started has left running "
            f"(it is ended now):\n{told}",
            pytrace=False,
        )


def _may_leave(node: Node) -> bool:
    if node.stash.get(_FAILED, False) or node.config.getoption(_OPTION):
        return True  # a failed test did not come to its end
    mark = node.get_closest_marker(_MARKER)
    return mark is not None and bool(mark.kwargs.get("allow_leftovers", False))


def _section(process: Process, offset: int = 0) -> tuple[str, str]:
    """What a process has written, from an offset on."""
    title = f"{process.id}: {shlex.join(process.options.argv())} ({process.status})"
    lines = process.read(offset).data.decode(errors="replace").splitlines()
    omitted = [f"… {len(lines) - _LINES} lines before"] if len(lines) > _LINES else []
    return title, "\n".join([*omitted, *lines[-_LINES:]]) or "it has written nothing"


@pytest.fixture
def core_runner(core_process: Service) -> Runner:
    """Runs specs by their dependencies, as processes of this test's own ``core_process``.
    ``run_all(specs)`` starts each the moment that what it comes after has passed;
    ``run_sequential(specs)`` goes in the order given and stops at the first failure;
    ``run_parallel(specs)`` starts all. The result has ``success``, ``passed``, ``failed``,
    ``skipped`` and, by name, what came of each: ``result["build"].output``.

    Example::

        from core_infra.process import Runner, RunSpec

        def test_build(core_runner: Runner) -> None:
            result = core_runner.run_all([
                RunSpec("build", "make"),
                RunSpec("test", "./test.sh", after=["build"], timeout=60),
            ])
            assert result.success
    """  # noqa: D205 - pytest --fixtures shows what comes before the first empty line
    from core_infra.process import Runner  # noqa: PLC0415 - who uses it pays for it

    return Runner(core_process)
