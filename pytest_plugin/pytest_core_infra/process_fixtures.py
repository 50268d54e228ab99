"""Processes: the fixture ``core_process``, its marker and its option."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from core_infra.process.process import Process
    from core_infra.process.service import Service

_MARKER = "core_process"
_OPTION = "--core-process-allow-leftovers"
_LINES = 50
_SERVICE = pytest.StashKey["Service"]()


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test have written."""
    report = yield
    service = item.stash.get(_SERVICE, None)
    if service is not None and report.when == "call" and report.failed:
        item.stash[_FAILED] = True
        report.sections += [_section(process) for process in service.list()]
    return report


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
    from core_infra.process.service import Service  # noqa: PLC0415 - who uses it pays for it

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


def _may_leave(node: pytest.Item) -> bool:
    if node.stash.get(_FAILED, False) or node.config.getoption(_OPTION):
        return True  # a failed test did not come to its end
    mark = node.get_closest_marker(_MARKER)
    return mark is not None and bool(mark.kwargs.get("allow_leftovers", False))


def _section(process: Process) -> tuple[str, str]:
    title = f"{process.id}: {shlex.join(process.options.argv())} ({process.status})"
    lines = process.output().splitlines()
    omitted = [f"… {len(lines) - _LINES} lines before"] if len(lines) > _LINES else []
    return title, "\n".join([*omitted, *lines[-_LINES:]]) or "it has written nothing"
