"""Where a traceback and a debugger end: in the frame that called the library."""

from __future__ import annotations

import pytest

TESTS = """
    import unittest

    import pytest

    def helper(service, marker):
        service.run("false", "of helper")

    def test_error(core_process):
        marker = "in the test"
        core_process.run("no-such-program")

    def test_error_of_a_helper(core_process):
        helper(core_process, "in the helper")

    def test_not_an_error_of_ours(core_medium):
        marker = "in the test"
        core_medium.diff(type("Other", (), {"fork": lambda self: None})())

    class TestUnit(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def service(self, core_process):
            self.service = core_process

        def test_error_in_a_test_case(self):
            marker = "in the test"
            self.service.run("no-such-program")
"""


@pytest.mark.parametrize("style", ["auto", "long", "short", "native", "line"])
def test_no_style_shows_frames_of_the_library(pytester: pytest.Pytester, style: str) -> None:
    pytester.makepyfile(test_it=TESTS)
    result = pytester.runpytest_inprocess(f"--tb={style}")
    result.assert_outcomes(failed=4)
    text = result.stdout.str()
    assert "src/core_infra" not in text
    for line in (10, 6, 17, 26):
        assert f"test_it.py:{line}" in text or f'test_it.py", line {line}' in text


def test_all_is_shown_on_request(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TESTS)
    text = pytester.runpytest_inprocess("--full-trace").stdout.str()
    assert "src/core_infra/process/_service.py" in text
    assert "src/core_infra/medium/_memory.py" in text
    pytester.makepyfile(test_it=TESTS)
    text = pytester.runpytest_inprocess().stdout.str()
    assert text.count("--full-trace shows them") == 1, "where the error does not say all itself"


def test_the_debugger_stops_in_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TESTS)
    child = pytester.spawn_pytest("--pdb test_it.py", expect_timeout=120)
    for where in ("in the test", "in the helper", "in the test", "in the test"):
        child.expect_exact("(Pdb) ")
        child.sendline("p marker")
        child.expect_exact(f"'{where}'")
        child.sendline("c")
    child.expect_exact("4 failed")
    child.wait()
