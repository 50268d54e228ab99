from __future__ import annotations

import pytest

from pytest_core_infra._vm.fixtures import SKIP_REASON


@pytest.mark.parametrize(
    "test",
    [
        "def test_one(core_vm): assert 0",
        "def test_one(core_vm_factory): assert 0",
        "@pytest.mark.core_vm\ndef test_one(): assert 0",
        "@pytest.fixture\ndef server(core_vm): assert 0\ndef test_one(server): assert 0",
        "def test_one(request): request.getfixturevalue('core_vm')",
    ],
)
def test_what_needs_a_machine_is_skipped_with_the_options_name(
    pytester: pytest.Pytester, test: str
) -> None:
    pytester.makepyfile(f"import pytest\n{test}")
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(f"SKIPPED * {SKIP_REASON}")
    assert "--core-vm" in SKIP_REASON


def test_a_medium_needs_no_machine(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_one(core_medium):
            core_medium.write_text("a", "b")
            assert core_medium.read_text("a") == "b"

        def test_two(core_medium):
            assert not core_medium.exists("a")
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


@pytest.mark.parametrize("args", [[], ["--core-vm", "-n1"]], ids=["off", "xdist"])
def test_wrong_markers_are_errors_that_name_the_test(
    pytester: pytest.Pytester, args: list[str]
) -> None:
    pytester.makepyfile(
        test_marks="""
        import pytest

        @pytest.mark.core_vm(ram=1)
        def test_unknown(core_vm): pass

        @pytest.mark.core_vm(memory="much", cpus=True)
        class TestMany:
            def test_types(self, core_vm): pass

        @pytest.mark.core_vm(512)
        def test_position(core_vm): pass

        @pytest.mark.parametrize("core_vm", [5], indirect=True)
        def test_parameter(core_vm): pass

        @pytest.mark.core_vm(memory=512, cpus=2, image="x", timeout=1.5)
        def test_right(core_vm): pass
        """
    )
    result = pytester.runpytest_subprocess(*args)
    assert result.ret != 0
    result.stdout.fnmatch_lines_random(
        [
            "test_marks.py::test_unknown: *core_vm has no argument 'ram'; it has memory, *",
            "test_marks.py::TestMany::test_types: *needs a number of MiB *, but was given 'much'",
            "test_marks.py::TestMany::test_types: *needs a number as cpus, but was given True",
            "test_marks.py::test_position: *no positional arguments, but was given (512,)",
            "test_marks.py::test_parameter*: *parameter of core_vm must be a dict * memory: 5",
        ]
    )
    assert "test_right:" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


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
