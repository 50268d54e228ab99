"""Machines that several tests share."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

from pytest_core_infra._vm.fixtures import SKIP_REASON
from support import left_in, wait_gone

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SHARED = """
    import os

    import pytest

    from core_infra.vm import GuestGoneError

    pytestmark = pytest.mark.core_vm(memory=128, revert=True)

    @pytest.fixture(scope="module")
    def server(core_vm_module):
        core_vm_module.write_text("/srv/note", "of the module")
        return core_vm_module

    class TestRevert:
        def test_what_a_module_has_done_is_there(self, server):
            assert (server.spec.memory, server.read_text("/srv/note")) == (128, "of the module")
            server.write_text("/srv/note", "dirty")

        def test_what_a_test_has_done_is_not(self, server):
            assert server.read_text("/srv/note") == "of the module"
            with pytest.raises(GuestGoneError):
                server.exec("poweroff -f; sleep 1000", timeout=60)

        def test_nor_that_it_has_ended_the_guest(self, server, core_vm):
            assert server.read_text("/srv/note") == "of the module"
            assert core_vm is not server
            assert core_vm.spec.memory == 128

    class TestWider:
        @pytest.fixture(scope="class")
        @classmethod
        def more(cls, server):
            server.write_text("/srv/more", "of the class")
            yield
            assert server.read_text("/srv/more") == "of the class"
            server.exec("rm /srv/more", check=True)

        def test_one(self, more, server):
            server.write_text("/srv/more", "dirty")

        def test_two(self, more, server):
            assert server.read_text("/srv/more") == "of the class"

    def test_what_a_class_has_taken_back_is_gone(server):
        assert server.exec("ls /srv").stdout == "note\\n"

    class TestOwn:
        def test_one(self, core_vm_class, core_vm_session):
            core_vm_class.write_text("/one", "")
            core_vm_session.write_text("/one", str(core_vm_class.pid))

        def test_two(self, core_vm_class, core_vm_session):
            assert core_vm_class.exec("test -e /one").exit_code == 1, "reverted, as pytestmark says"
            assert core_vm_session.exec("test -e /one").exit_code == 0

    def test_of_a_class_goes_with_it(core_vm_session):
        with pytest.raises(ProcessLookupError):
            os.kill(int(core_vm_session.read_text("/one")), 0)

    @pytest.fixture(scope="module")
    def prepared(core_vm_snapshot):
        return core_vm_snapshot(lambda vm: vm.write_text("/prepared", ""))()

    def test_a_clone_lives_as_long_as_the_fixture(prepared):
        prepared.write_text("/one", "")

    def test_and_goes_back_too(prepared):
        assert prepared.exec("cd /; ls one prepared").stdout == "prepared\\n"
"""


def test_tests_share_machines_and_find_them_as_they_were(
    pytester: pytest.Pytester, runs: Path
) -> None:
    pytester.makepyfile(SHARED)
    result = pytester.runpytest_subprocess("--core-vm")
    result.assert_outcomes(passed=11)
    result.stdout.fnmatch_lines("core_vm: 5 machines, started in *")
    assert left_in(runs) == []


FAILING = """
    import pytest

    from core_infra.vm import GuestGoneError

    held = []

    @pytest.fixture(scope="module")
    def server(core_vm_module):
        return core_vm_module

    def test_first(server, core_vm, core_vm_session):
        server.exec("echo of the first")
        held.append(core_vm)

    def test_fails(server):
        server.exec("echo of the second")
        assert 0

    def test_holds():
        held[0].exec("true")

    def test_stops(server):
        server.stop()

    def test_finds_it_stopped(server):
        server.exec("true")

    @pytest.mark.core_vm(memory=128)
    class TestClass:
        def test_ends_the_guest(self, core_vm_class):
            with pytest.raises(GuestGoneError):
                core_vm_class.exec("poweroff -f; sleep 1000", timeout=60)

        def test_finds_it_ended(self, core_vm_class):
            core_vm_class.exec("true")
"""


def test_reports_show_what_a_test_did_and_what_ended_its_machine(
    pytester: pytest.Pytester, runs: Path
) -> None:
    pytester.makepyfile(test_it=FAILING)
    result = pytester.runpytest_subprocess("--core-vm", "--core-vm-keep=failed")
    result.assert_outcomes(passed=3, failed=4)
    parts = dict(zip(*[iter(_split(result.stdout.str()))] * 2, strict=False))
    fails = parts["test_fails"]
    assert "$ echo of the second" in fails
    assert "of the first" not in fails
    assert "vm3" not in fails, "the session's machine, which the test cannot reach"
    assert "will be left running" in fails
    assert "ended by the end of test_it.py::test_first, which it belonged to" in parts["test_holds"]
    assert "core_vm_module" in parts["test_holds"]
    assert "ended by test_it.py::test_stops (call)" in parts["test_finds_it_stopped"]
    found = parts["TestClass.test_finds_it_ended"]
    assert "has ended during test_it.py::TestClass::test_ends_the_guest (call)" in found
    assert "machines left running" not in result.stdout.str(), "none of those that failed runs"
    assert left_in(runs) == []


def _split(text: str) -> list[str]:
    """Titles of tests in pytest's output, each followed by what is below it."""
    return re.split(r"^_{3,} (\S+) _{3,}$", text, flags=re.MULTILINE)[1:]


def test_a_machine_of_a_module_is_kept_at_its_end(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(
        test_it="""
        def test_fails(core_vm_module): assert 0
        def test_goes_on(core_vm_module): assert core_vm_module.exec("true").exit_code == 0
        def test_own(core_vm, core_vm_session): pass
        """
    )
    result = pytester.runpytest_subprocess("--core-vm", "--core-vm-keep=failed")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["* machines left running *", "vm1 of core_vm_factory_module of *"])
    assert [name.rpartition("-")[2] for name in left_in(runs)] == ["vm1"]
    pid = int(result.stdout.str().rpartition("kill ")[2].split()[0])
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)


def test_a_marker_that_no_machine_can_heed_is_one_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.core_vm(memory=128)
        def test_wrong(core_vm_module): pass

        @pytest.mark.core_vm(revert=True)
        def test_own(core_vm): pass

        @pytest.mark.core_vm(memory=128)
        def test_both(core_vm_module, core_vm): pass

        @pytest.mark.core_vm
        def test_without_arguments(core_vm_session): pass
        """
    )
    result = pytester.runpytest_inprocess("-rs")
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_wrong: the marker core_vm(memory=128) cannot change core_vm_module*",
            "test_it.py::test_own: revert in the marker core_vm has no effect on a test*",
        ]
    )
    assert "test_both:" not in result.stdout.str()
    assert "test_without_arguments:" not in result.stdout.str()


def test_without_the_option_they_are_skipped(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_class(core_vm_class): pass
        def test_module(core_vm_module): pass
        def test_session(core_vm_session): pass
        def test_late(request): request.getfixturevalue("core_vm_session")
        """
    )
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=4)
    result.stdout.fnmatch_lines(f"SKIPPED * {SKIP_REASON}")


HARMED = """
    import errno
    import pytest

    pytestmark = pytest.mark.core_vm(memory=128, disks=["16M"], revert=True)
    READ = "dd if=/dev/vda bs=4096 count=1 iflag=direct of=/dev/null"

    def test_harm(core_vm_module):
        core_vm_module.disk("vda").fail(read=errno.EIO)
        with core_vm_module.clock.jump(60):
            core_vm_module.exec(READ, check=True)

    def test_next(core_vm_module):
        core_vm_module.exec(READ, check=True)
        assert core_vm_module.active_faults() == []
        core_vm_module.power_cut()

    def test_last(core_vm_module):
        core_vm_module.exec("true", check=True)
"""


def test_faults_and_power_cuts_of_a_test_are_reported_and_do_not_harm_the_next(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_it=HARMED)
    result = pytester.runpytest_subprocess("--core-vm")
    result.assert_outcomes(failed=1, passed=2)
    text = result.stdout.str()
    assert "disk vda fails: read=EIO" in text
    assert re.search(
        r"fault clock: jumped by \+60 s  \(for \d+\.\d+ s, until the test failed\)", text
    )
