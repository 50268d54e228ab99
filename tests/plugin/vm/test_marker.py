"""What is booted before the tests: what they ask for, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core_infra.vm._cache import cache_root
from core_infra.vm._snapshots.store import SnapshotStore
from pytest_core_infra._vm.fixtures import SKIP_REASON
from pytest_core_infra._vm.marker import requested_by_all

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.vm import Machine


TESTS = """
    import pytest

    @pytest.fixture
    def server(core_vm): pass

    def test_default(core_vm): pass

    def test_by_a_fixture(server): pass

    @pytest.mark.core_vm(memory=300)
    class TestMarked:
        @pytest.mark.core_vm(cpus=2)
        def test_both(self, core_vm): pass

        @pytest.mark.parametrize("core_vm", [{"memory": 301}, {}], indirect=True)
        def test_parameters(self, core_vm): pass

        @pytest.mark.parametrize("core_vm_factory", [{"memory": 302}], indirect=True)
        @pytest.mark.parametrize("core_vm", [{"cpus": 3}], indirect=True)
        def test_of_the_factory(self, core_vm): pass

    @pytest.mark.skip
    @pytest.mark.core_vm(memory=401)
    def test_skipped(core_vm): pass

    @pytest.mark.skipif("1 < 2", reason="true")
    @pytest.mark.core_vm(memory=402)
    def test_skipped_by_a_condition(core_vm): pass

    @pytest.mark.xfail(run=False)
    @pytest.mark.core_vm(memory=403)
    def test_not_run(core_vm): pass

    @pytest.mark.core_vm(memory=404)
    def test_makes_its_own(core_vm_factory): pass

    def test_prepares(core_vm_snapshot): pass

    @pytest.mark.core_vm(memory=405)
    class TestOwnFixture:
        @pytest.fixture
        def core_vm(self): pass

        def test_other(self, core_vm): pass

    @pytest.mark.core_vm(memory=303)
    class TestFixtureOnTop:
        @pytest.fixture(params=[{"memory": 406}])
        def core_vm(self, core_vm, request): return core_vm

        def test_it(self, core_vm): pass

    @pytest.mark.core_vm(memory=304, revert=True)
    class TestShared:
        def test_class(self, core_vm_class): pass

        @pytest.mark.parametrize("core_vm_session", [{"memory": 305}], indirect=True)
        def test_session(self, core_vm_session): pass
"""


def test_each_kind_that_collected_tests_ask_for_is_wanted_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    items, _ = pytester.inline_genitems("--core-vm")
    assert requested_by_all(items) == [
        {},
        {"memory": 300, "cpus": 2},
        {"memory": 301},
        {"memory": 300},
        {"memory": 302, "cpus": 3},
        {"memory": 303},
        {"memory": 304},
        {"memory": 305},
    ]


@pytest.mark.parametrize("args", [(), ("-n1",)], ids=["alone", "xdist"])
def test_nothing_else_is_booted(
    pytester: pytest.Pytester, runs: Path, args: tuple[str, ...]
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.core_vm(memory=256)
        def test_it(core_vm): pass

        @pytest.mark.core_vm(memory=98)
        def test_deselected(core_vm): pass
        """
    )
    result = pytester.runpytest_subprocess("--core-vm", "--core-vm-memory=99", "-k", "it", *args)
    result.assert_outcomes(passed=1, deselected=0 if args else 1)
    result.stdout.fnmatch_lines("core_vm: image *, 99 MiB, *")
    saved = {one.facts["memory"] for one in SnapshotStore(cache_root() / "snapshots").all()}
    assert 256 in saved
    assert not saved & {98, 99}
    assert runs.exists()


def test_what_cannot_be_saved_fails_its_test_only(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.core_vm(image="no/such/image")
        def test_bad(core_vm): pass

        def test_good(core_vm): pass
        """
    )
    result = pytester.runpytest_subprocess("--core-vm")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines("there is no image *no/such/image")
    assert runs.exists()


@pytest.mark.parametrize("core_vm", [{"memory": 192}, {"cpus": 2}], indirect=True)
@pytest.mark.core_vm(cpus=1)
def test_parameters_count(core_vm: Machine) -> None:
    assert (core_vm.spec.memory, core_vm.spec.cpus) in {(192, 1), (256, 2)}


def test_wrong_parameters_are_errors_that_name_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.parametrize("core_vm", [{"ram": 192}, 5], indirect=True)
        def test_one(core_vm): pass

        @pytest.mark.parametrize("core_process", [3], indirect=True)
        def test_two(core_process): pass
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_one[[]ram=192[]]: *core_vm has no argument 'ram'; it has memory, *",
            "test_it.py::test_one[[]5[]]: *core_vm must be a dict *: 5",
            "test_it.py::test_two[[]3[]]: the fixture core_process has no parameters, *given 3",
        ]
    )


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
