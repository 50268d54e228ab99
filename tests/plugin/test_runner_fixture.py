"""``core_runner`` in a suite of a user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

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
