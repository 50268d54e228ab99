"""What a run reports of a preparation that fails."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from support import is_running, left_in, section, ways

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TESTS = """
    import pytest

    @pytest.fixture(scope="session")
    def database(core_vm_snapshot):
        def prepare(vm):
            with open("prepared", "a") as file:
                file.write(vm.name)
            vm.exec("echo step one; echo warn >&2", check=True)
            vm.exec("echo last words > /dev/console")
            vm.exec("initdb --nope", check=True)
        return core_vm_snapshot(prepare)

    @pytest.fixture
    def wrapped(request):
        try:
            request.getfixturevalue("database")
        except Exception as error:
            raise RuntimeError("no database") from error

    def test_a(database): pass

    def test_b(database): pass

    def test_c(wrapped): pass
"""


def test_it_is_reported_in_full_once_and_then_by_where_that_is(
    pytester: pytest.Pytester, runs: Path
) -> None:
    pytester.makepyfile(test_it=TESTS)
    result = pytester.runpytest_subprocess("--core-vm")
    result.assert_outcomes(errors=3)
    text = result.stdout.str()
    first = section(text, "_ ERROR at setup of test_a _")
    assert "GuestCommandError: command failed in the guest: " in first
    assert "src/core_infra" not in first
    assert "$ echo step one; echo warn >&2\n  exit code 0, " in first
    assert "  stderr | warn" in first
    assert "$ initdb --nope\n  exit code 127, " in first
    assert "last words" in first
    assert "(all of it: " in first
    for test in ("test_b", "test_c"):
        later = section(text, f"_ ERROR at setup of {test} _")
        assert "initdb --nope" in later
        assert "see test_it.py::test_a (setup)" in later
        assert "(all of it: " not in later
    assert (pytester.path / "prepared").read_text() == "prepared1", "and no second time"
    result.stdout.fnmatch_lines("core_vm: no test got a machine; 1 preparation failed")
    assert left_in(runs) == []


def test_the_machine_is_kept_if_that_is_asked_for(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(test_it=TESTS)
    result = pytester.runpytest_subprocess("--core-vm", "--core-vm-keep=failed")
    text = result.stdout.str()
    report, _, end = text.partition("= machines left running =")
    assert "prepared1 of database of the session" in end
    _, pid = ways(section(report, "_ ERROR at setup of test_a _"))
    assert ways(end)[1] == pid
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)
    assert runs.exists()
