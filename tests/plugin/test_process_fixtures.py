"""The fixture core_process, in pytest runs of its own."""

from __future__ import annotations

import pytest

QUICK = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider")


def test_what_a_test_leaves_running_fails_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from core_infra.process import ActionProcessOutput, LogPattern, Service

        PIDS = []

        def leave(service: Service) -> None:
            process = service.start("sh", "-c", "echo last words; sleep 600")
            process.wait_ready(LogPattern("words"))
            PIDS.extend(process.leftovers())

        def test_clean(core_process: Service) -> None:
            assert core_process.run("echo", "hi") == "hi\\n"
            leave(core_process)
            core_process.running()[0].stop()

        def test_leak(core_process: Service) -> None:
            leave(core_process)

        def test_daemon(core_process: Service) -> None:
            core_process.run("sh", "-c", "sleep 601 > /dev/null 2>&1 &")
            PIDS.extend(left.pid for left in core_process.leftovers())

        @pytest.mark.core_process(allow_leftovers=True)
        def test_allowed(core_process: Service) -> None:
            leave(core_process)

        def test_fails_itself(core_process: Service) -> None:
            leave(core_process)
            assert False

        def test_events(core, core_process: Service) -> None:
            lines = []
            core.register_action(lambda event: lines.append(event.line), ActionProcessOutput)
            core_process.run("seq", "3")
            assert lines == ["1", "2", "3"]

        def test_all_are_gone() -> None:
            import os
            assert len(PIDS) >= 5
            assert not any(os.path.exists(f"/proc/{pid}") for pid in PIDS)
        """
    )
    result = pytester.runpytest_subprocess(*QUICK)
    result.assert_outcomes(passed=6, failed=1, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "*ERROR at teardown of test_leak*",
            "proc-1: sh -c 'echo last words; sleep 600' (pid *",
            "    last words",
            "*ERROR at teardown of test_daemon*",
            "sleep 601 (pid *",
            "*proc-1: sh -c 'echo last words; sleep 600' (running)*",
        ]
    )


def test_the_option_allows_leftovers_to_all(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_leak(core_process):
            core_process.start("sleep", "600")
        """
    )
    result = pytester.runpytest_subprocess(*QUICK, "--core-process-allow-leftovers")
    result.assert_outcomes(passed=1)


TESTS = """
    from core_infra.process import RunSpec

    def test_in_order(core_runner):
        result = core_runner.run_all([
            RunSpec("second", "echo", ["two"], after=["first"]),
            RunSpec("first", "echo", ["one"]),
        ])
        assert result.success
        assert result["second"].output == "two\\n"

    def test_by_the_service_of_the_test(core_runner, core_process):
        core_runner.run_all([RunSpec("call", call=lambda: core_process.run("true"))])
        assert not core_process.running()
"""


def test_specs_run_by_the_service_of_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_the_manual(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines(["core_runner*", "*Runs specs in dependency order*"])


@pytest.mark.parametrize("args", [(), ("-n1",)], ids=["alone", "xdist"])
def test_wrong_markers_are_errors_that_name_the_test(
    pytester: pytest.Pytester, args: tuple[str, ...]
) -> None:
    pytester.makepyfile(
        test_marks="""
        import pytest

        @pytest.mark.core_process(alow_leftovers=True)
        def test_unknown(core_process): pass

        @pytest.mark.core_process(allow_leftovers="no")
        class TestOther:
            def test_type(self): pass

        @pytest.mark.core_process(True)
        def test_position(core_process): pass

        @pytest.mark.core_process(allow_leftovers=False)
        def test_right(core_process): pass
        """
    )
    result = pytester.runpytest_subprocess(*args)
    assert result.ret != 0
    result.stdout.fnmatch_lines_random(
        [
            "test_marks.py::test_unknown: *no argument 'alow_leftovers'*; did you mean 'allow_*'?",
            "test_marks.py::TestOther::test_type: *needs True or False as allow_leftovers, *'no'",
            "test_marks.py::test_position: *core_process takes no positional arguments, *(True,)",
        ]
    )
    assert "test_right:" not in result.stdout.str()
