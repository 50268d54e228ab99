from __future__ import annotations

from typing import TYPE_CHECKING

from support import left_in

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PAIR = """
    import pytest

    @pytest.mark.parametrize("number", [1, 2])
    def test_pair(core_vm, number):
        core_vm.exec(f"echo number {number}")
        assert number != 2
"""


def test_workers_share_what_was_prepared_and_their_reports_arrive(
    pytester: pytest.Pytester, runs: Path
) -> None:
    pytester.makepyfile(test_it=PAIR)
    result = pytester.runpytest_subprocess("--core-vm", "-n2")
    result.assert_outcomes(passed=1, failed=1)
    lines = result.stdout
    assert sum(line.startswith("core_vm: image ") for line in lines.lines) == 1
    lines.fnmatch_lines(
        ["*the test, step by step*", "+* s  $ echo number 2", "  stdout | number 2", "*console*"]
    )
    lines.fnmatch_lines("core_vm: 2 machines, started in *.* s (median), *")
    assert left_in(runs) == []
