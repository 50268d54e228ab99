"""What the plugin costs a run that does not use it, and its manual."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def test_a_run_that_does_not_use_it_loads_nothing_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            loaded = [n for n in sys.modules if n.split(".")[0] in ("core_infra", "pexpect")]
            assert not loaded
            ours = [n for n in sys.modules if n.startswith("pytest_core_infra.")]
            light = ("_markers", "_reports", "_vm", "marker", "options", "plugin")
            heavy = [n for n in ours if not n.endswith((*light, "fixtures"))]
            assert not heavy
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_fixtures_read_like_a_manual(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess("--fixtures").stdout.str()
    for name in ("core_vm", "core_vm_factory", "core_medium"):
        assert f"\n{name} -- " in text
    for told in (
        "--core-vm-keep=failed",
        "wait_for_port(number)",
        "template=, variables=",
        "``Medium``",
    ):
        assert told in text


def test_markers_are_explained(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(
        "@pytest.mark.core_vm(memory=*, cpus=*, disks=*, image=*, *timeout=*): *"
    )
