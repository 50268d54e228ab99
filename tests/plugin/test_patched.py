"""Tests that patch files, time or the system, beside machines and processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import left_in

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

# Each test fails in its body while everything is patched, after it has used what it has.
PATCHES = """
    import builtins, io, os, pathlib, shutil, socket, subprocess, tempfile, time

    import freezegun
    import pytest
    import time_machine
    from core_infra.process import LogPattern, RunOptions
    from core_infra.process import RunSpec
    from pyfakefs.fake_filesystem_unittest import Patcher

    def boom(*args, **kwargs):
        pytest.fail("patched")

    FUNCTIONS = {  # all of the kind that pytest itself can do without
        os: "eventfd_write kill killpg mkdir open pidfd_open pipe read rename replace rmdir "
        "scandir unlink utime waitpid write".split(),
        pathlib.Path: "glob is_dir iterdir mkdir open read_bytes read_text rename unlink "
        "write_bytes write_text".split(),
        shutil: ["copyfile", "copyfileobj", "rmtree", "which"],
        tempfile: ["gettempdir", "mkdtemp", "mkstemp"],
        subprocess: ["Popen", "run"],
        socket: ["create_connection", "socket", "socketpair"],
        io: ["open"],
        builtins: ["open"],
    }
    CLOCKS = ["monotonic", "sleep", "time", "time_ns", "perf_counter"]

    def no_functions(patch):
        for where, names in FUNCTIONS.items():
            for name in names:
                patch.setattr(where, name, boom)

    def no_time(patch):
        for name in CLOCKS:
            patch.setattr(time, name, boom)

    def time_stands_still(patch):
        patch.setattr(time, "monotonic", lambda: 5.0)
        patch.setattr(time, "time", lambda: 5.0)
        patch.setattr(time, "sleep", lambda seconds: None)

    def no_directories(patch):
        gone = tempfile.mkdtemp()
        patch.chdir(gone)
        os.rmdir(gone)
        for name in ("HOME", "PATH", "USER"):
            patch.delenv(name, raising=False)
        patch.setenv("TMPDIR", "/no/such/place")
        patch.setattr(tempfile, "tempdir", None)

    def no_environment(patch):
        for name in list(os.environ):
            if name != "PYTEST_CURRENT_TEST":
                patch.delenv(name)

    PATCHES = [no_time, time_stands_still, no_directories, no_environment, no_functions]

    @pytest.fixture(params=PATCHES, ids=lambda one: one.__name__)
    def patched(request):
        with pytest.MonkeyPatch.context() as patch:
            request.param(patch)
            yield

    def test_that_runs_all_the_same():
        pass
"""

MACHINES = """
    def use(machine):
        assert machine.exec("echo hi").stdout == "hi\\n"
        machine.write_text("/root/a", "b")
        assert machine.read_text("/root/a") == "b"
        machine.wait_for_file("/root/a")
        machine.snapshot("here")
        machine.revert("here")
        with pytest.raises(Exception, match="waited|did not end"):
            machine.wait_until_succeeds("false", timeout=0.2)
        with pytest.raises(Exception, match="did not end"):
            machine.exec("sleep 1000", timeout=0.2)
        assert "BusyBox" in machine.logs()

    def test_machine_then_patch(core_vm, patched):
        use(core_vm)
        raise ValueError("seen")

    def test_patch_then_machine(patched, core_vm):
        use(core_vm)
        raise ValueError("seen")

    @freezegun.freeze_time("2001-01-01")
    def test_frozen(core_vm):
        use(core_vm)
        assert int(core_vm.exec("date +%Y").stdout) > 2020
        raise ValueError("seen")

    @time_machine.travel("2001-01-01", tick=False)
    def test_travelled(core_vm):
        use(core_vm)
        raise ValueError("seen")

    def test_fake_files(core_vm, fs):
        use(core_vm)
        raise ValueError("seen")

    def test_fake_files_first(fs, core_vm):
        use(core_vm)
        raise ValueError("seen")

    def test_our_fake_files(core_vm, core_medium_fs):
        core_medium_fs.write_text("/srv/a", "b")
        use(core_vm)
        raise ValueError("seen")

    class TestWide:
        @pytest.fixture(scope="class", autouse=True)
        def fake(self):
            with Patcher():
                yield

        def test_wide(self, core_vm):
            use(core_vm)
            raise ValueError("seen")

        def test_wide_again(self, core_vm_factory):
            use(core_vm_factory(memory=128))
            raise ValueError("seen")
"""

PROCESSES = """
    def use(service):
        assert service.run("echo", "hi") == "hi\\n"
        with pytest.raises(Exception, match="0.2 s"):
            service.run_with_options(RunOptions("sleep", ["1000"], timeout=0.2))
        server = service.start("sh", "-c", "echo ready; read line; echo got $line; sleep 1000")
        server.wait_ready(LogPattern("ready"), timeout=30)
        server.send_input("it\\n")
        server.wait_ready(LogPattern("got it"), timeout=30)
        with pytest.raises(Exception, match="still runs"):
            server.wait(0.1)
        server.stop()
        service.start("sh", "-c", "trap '' TERM; while :; do sleep 1; done").stop(grace=0.2)
        service.start("sleep", "1001")

    def test_process_then_patch(core_process, patched):
        use(core_process)
        raise ValueError("seen")

    def test_patch_then_process(patched, core_process):
        use(core_process)
        raise ValueError("seen")

    @freezegun.freeze_time("2001-01-01")
    def test_frozen(core_process):
        use(core_process)
        raise ValueError("seen")

    @time_machine.travel("2001-01-01", tick=False)
    def test_travelled(core_process):
        use(core_process)
        raise ValueError("seen")

    def test_fake_files(core_process, fs):
        use(core_process)
        raise ValueError("seen")

    def test_fake_files_first(fs, core_process):
        use(core_process)
        raise ValueError("seen")

    def test_our_fake_files(core_medium_fs, core_runner):
        specs = [RunSpec("a", "true"), RunSpec("b", "true", after=["a"])]
        assert core_runner.run_all(specs).success
        raise ValueError("seen")
"""


def test_machines(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(test_it=PATCHES + MACHINES)
    text = failures_of(pytester, 17, "--core-vm", "--core-vm-accel=tcg")
    assert text.count("$ echo hi\n  exit code 0") == 17
    assert text.count("(all of it: ") == 17
    assert left_in(runs) == []


def test_processes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=PATCHES + PROCESSES)
    text = failures_of(pytester, 15)
    assert text.count("sleep 1001 (running)") == 14


def failures_of(pytester: pytest.Pytester, number: int, *args: str) -> str:
    """The output of a run whose tests all fail by their own last line, but one, which passes."""
    result = pytester.runpytest_subprocess(*args, timeout=500)
    text = result.stdout.str()
    assert "INTERNALERROR" not in text + result.stderr.str()
    result.assert_outcomes(passed=1, failed=number)
    assert text.count("E       ValueError: seen") == number
    assert "could not" not in text
    return text
