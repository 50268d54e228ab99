"""Processes that several tests, or all workers of a run, share."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from support import is_running, wait_gone

SHARED = """
    import contextlib
    import os
    import signal
    from pathlib import Path
    from urllib.request import urlopen

    import pytest

    from core_infra.process import LogPattern, RunOptions

    here = Path(__file__).parent

    def start(directory):
        with (here / "starts").open("a") as file:
            file.write("one\\n")
        return RunOptions(
            "python3", ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"], dir=directory
        )

    @pytest.fixture(scope="session")
    def server(core_process_session):
        found = core_process_session.shared("web", start, LogPattern(r"port (?P<port>[0-9]+)"))
        with (here / "pids").open("a") as file:
            file.write(f"{found.pid}\\n")
        return found

    def asked(server):
        with urlopen(f"http://127.0.0.1:{server['port']}/") as answer:
            return answer.status
"""


def test_workers_share_one_server_and_a_killed_worker_harms_no_other(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_it=SHARED
        + """
    @pytest.mark.parametrize("number", range(6))
    def test_asks(server, number):
        assert asked(server) == 200
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    """
    )
    result = pytester.runpytest_subprocess("-n2")
    result.assert_outcomes(passed=5, failed=1)
    assert (pytester.path / "starts").read_text() == "one\n"
    pids = {int(pid) for pid in (pytester.path / "pids").read_text().split()}
    assert len(pids) == 1
    assert not is_running(pids.pop()), "it has ended before the run"


def test_each_test_says_that_the_shared_server_has_ended(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=SHARED
        + """
    def test_kills(server):
        os.kill(server.pid, signal.SIGKILL)
        server._connection.settimeout(60)
        while not server.ended():
            pass
        assert asked(server) == 200

    @pytest.mark.parametrize("number", range(2))
    def test_asks(server, number): pass

    def test_other(): pass
    """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1, errors=2)
    assert result.stdout.str().count("the shared process 'web' has ended: signal 9: its") >= 2
    result.stdout.fnmatch_lines(["*shared process web (signal 9)*", "Serving HTTP on *"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shared_server_that_has_ended_is_not_handed_out(
    pytester: pytest.Pytester, workers: int
) -> None:
    # Each test asks anew, and the first kills it: another worker, too, must not get it.
    pytester.makepyfile(
        test_it=SHARED.replace('scope="session"', 'scope="function"')
        + """
    @pytest.mark.parametrize("number", range(4))
    def test_asks(server, number):
        with contextlib.suppress(ProcessLookupError):  # the other worker was faster
            os.kill(server.pid, signal.SIGKILL)
        while not server.ended():
            pass
        with pytest.raises(Exception, match="'web' has ended: signal 9: its last lines:"):
            server["port"]
    """
    )
    result = pytester.runpytest_subprocess(f"-n{workers}")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= 1
    assert outcomes["passed"] + outcomes["errors"] == 4
    assert outcomes["errors"] >= 3 - bool(workers)
    result.stdout.fnmatch_lines("*shared process 'web' has ended: signal 9: its last lines:*")


LEFT = {
    "test_a": SHARED.replace("session", "module")
    + """
    def test_asks(server):
        assert asked(server) == 200
""",
}
"""A module that uses the server, and leaves it."""


@pytest.mark.parametrize("workers", [0, 1])
def test_it_lasts_as_long_as_the_run_even_while_it_is_not_used(
    pytester: pytest.Pytester, workers: int
) -> None:
    pytester.makepyfile(**LEFT, test_b=LEFT["test_a"])
    pytester.runpytest_subprocess(f"-n{workers}").assert_outcomes(passed=2)
    assert (pytester.path / "starts").read_text() == "one\n"
    [pid, again] = (pytester.path / "pids").read_text().split()
    assert pid == again
    assert not is_running(int(pid)), "it has ended before the run"


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_shared_ends_with_a_run_that_is_killed(
    pytester: pytest.Pytester, workers: int
) -> None:
    pytester.makepyfile(
        **LEFT,
        test_b="""
    import os
    import signal
    from pathlib import Path

    def test_waits():
        if (child := os.fork()) == 0:
            signal.pause()
        here = Path(__file__).parent
        with (here / "fifo").open("w") as file:
            file.write(f"{(here / 'pids').read_text()} {os.getpid()} {child}")
        signal.pause()
    """,
    )
    fifo = pytester.path / "fifo"
    os.mkfifo(fifo)
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", f"-n{workers}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    # Opened for writing, too, so that this does not wait for a writer.
    reader, ended = os.open(fifo, os.O_RDWR), os.pidfd_open(run.pid)
    try:
        assert reader in select.select([reader, ended], [], [])[0]
        server, worker, child = map(int, os.read(reader, 100).split())
        assert is_running(server)
    finally:
        os.close(reader)
        os.close(ended)
        run.kill()
        run.wait()
    try:
        wait_gone(worker)
        wait_gone(server)
    finally:
        os.kill(child, signal.SIGKILL)


def test_workers_that_cannot_know_the_end_of_the_run_end_it_themselves(
    pytester: pytest.Pytester,
) -> None:
    """As on another host."""
    pytester.makeconftest(
        """
    import pytest

    @pytest.hookimpl(trylast=True)
    def pytest_configure_node(node):
        node.workerinput["core_infra_run"] = "/no/such/place"
    """
    )
    pytester.makepyfile(
        test_it=SHARED
        + """
    @pytest.mark.parametrize("number", range(4))
    def test_asks(server, number):
        assert asked(server) == 200
    """
    )
    pytester.runpytest_subprocess("-n2").assert_outcomes(passed=4)
    for pid in (pytester.path / "pids").read_text().split():
        assert not is_running(int(pid))


def test_what_does_not_start_or_cannot_be_shared_is_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        from core_infra.errors import InvalidError, UnavailableError
        from core_infra.process import Check, RunOptions, Start

        def test_it(core_process_session):
            share = core_process_session.shared
            with pytest.raises(UnavailableError, match="no such program|not found|no-such"):
                share("a", RunOptions("no-such-program"))
            with pytest.raises(UnavailableError, match="broken"):
                share("a", RunOptions("sh", ["-c", "echo broken; exit 3"]), Check(dict))
            with pytest.raises(InvalidError, match="be sent to another process"):
                share("b", RunOptions("sleep", ["1000"]), Check(lambda: True))
            with pytest.raises(InvalidError, match="RunOptions or a Start"):
                share("b", "sleep 1000")
            with pytest.raises(InvalidError, match="letters"):
                share("../b", RunOptions("sleep", ["1000"]))
            start = Start(RunOptions("sleep", ["1000"]), facts={"answer": 42})
            assert share("b", lambda directory: start)["answer"] == 42
            assert share("b", None) is share("b", None)
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


SCOPED = """
    import os

    import pytest

    @pytest.fixture(scope="module")
    def server(core_process_module):
        return core_process_module.start("cat")

    def say(server, text):
        offset = server.written
        server.send_input(text + "\\n")
        assert server.read(offset, 60).data

    def test_first(server):
        say(server, "of the first")

    def test_fails(server, core_process_session):
        say(server, "of the second")
        assert 0

    class TestDaemon:
        def test_leaves(self, core_process_class):
            core_process_class.run("sh", "-c", "sleep 1000 >/dev/null 2>&1 &")

        def test_goes_on(self, core_process_class): pass

    @pytest.mark.core_process(allow_leftovers=True)
    class TestAllowed:
        def test_leaves(self, core_process_class):
            core_process_class.run("sh", "-c", "sleep 1000 >/dev/null 2>&1 &")
"""


def test_what_is_left_is_judged_at_the_end_of_its_scope(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=SCOPED)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=4, failed=1, errors=1)
    lines = result.stdout
    assert "of the second" in lines.str()
    assert "of the first" not in lines.str().replace('"of the first"', "")
    lines.fnmatch_lines(
        [
            "*ERROR at teardown of TestDaemon.test_goes_on*",
            "programs of core_process_class of test_it.py::TestDaemon have left running *",
            "sleep 1000 (pid *",
        ]
    )
