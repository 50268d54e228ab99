from __future__ import annotations

import pytest

from core_infra.vm._hardware import DEFAULT_MEMORY
from pytest_core_infra._vm.options import OPTIONS
from pytest_core_infra._vm.settings import read_settings

ONE_TEST = "def test_one(): pass"


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    pytester.makepyfile(ONE_TEST)
    return pytester.runpytest_inprocess(*args)


def test_header_shows_what_runs_the_machines(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--core-vm", "--core-vm-accel=tcg", "--core-vm-cpus=2")
    result.stdout.fnmatch_lines(
        [
            "core_vm: qemu [0-9]*, tcg (asked for)",
            f"core_vm: image default (Linux *), *, {DEFAULT_MEMORY} MiB, 2 cpus",
            "core_vm: no test asked for a machine",
        ]
    )
    assert result.ret == 0


def test_header_shows_the_requested_processor(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--core-vm", "--core-vm-accel=tcg", "--core-vm-cpu=max,aes=off")
    result.stdout.fnmatch_lines(["core_vm: image default*", "core_vm: -cpu max,aes=off*"])
    assert result.ret == 0


def test_tests_that_are_not_hermetic_are_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.core_vm(network="nat")
        def test_open(core_vm): pass
        def test_hermetic(core_vm): pass
        """
    )
    result = pytester.runpytest_inprocess("--core-vm")
    result.stdout.fnmatch_lines(
        [
            "core_vm: 1 test not hermetic (network=nat):",
            "  *::test_open",
            "core_vm: 2 machines, *; 1 not hermetic (network=nat)",
        ]
    )
    assert "::test_hermetic" not in result.stdout.str()
    result = run(pytester, "--core-vm", "--core-vm-network=nat")
    result.stdout.fnmatch_lines("core_vm: network nat: machines reach what this host reaches")


def test_nothing_is_said_or_prepared_without_the_option(pytester: pytest.Pytester) -> None:
    assert "core_vm" not in run(pytester).stdout.str()


def test_listing_tests_prepares_nothing(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--core-vm", "--core-vm-image=nowhere", "--collect-only")
    assert result.ret == 0
    assert "core_vm" not in result.stdout.str()


def test_command_line_outdoes_environment_outdoes_ini(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\ncore_vm = true\ncore_vm_memory = 101\n")
    run(pytester).stdout.fnmatch_lines("core_vm: image *, 101 MiB, *")
    monkeypatch.setenv("CORE_INFRA_VM_MEMORY", "102")
    run(pytester).stdout.fnmatch_lines("core_vm: image *, 102 MiB, *")
    result = run(pytester, "--core-vm-memory=103")
    result.stdout.fnmatch_lines("core_vm: image *, 103 MiB, *")


@pytest.mark.parametrize(("value", "skipped"), [("1", 0), ("On", 0), ("0", 1), ("no", 1)])
def test_environment_switches_it_on_and_off(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, value: str, skipped: int
) -> None:
    pytester.makeini(f"[pytest]\ncore_vm = {'true' if skipped else 'false'}")
    monkeypatch.setenv("CORE_INFRA_VM", value)
    pytester.makepyfile("import pytest\n@pytest.mark.core_vm\ndef test_one(): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1 - skipped, skipped=skipped)


def test_only_the_ini_files_value_of_warm_does_not_count_in_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\ncore_vm_warm = 5")
    monkeypatch.setenv("CI", "false")
    assert read_settings(pytester.parseconfig()).warm == 5
    monkeypatch.setenv("CI", "true")
    assert read_settings(pytester.parseconfig()).warm == 0
    assert read_settings(pytester.parseconfig("--core-vm-warm=3")).warm == 3


def test_values_in_toml_have_their_types(pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml(
        '[tool.pytest]\ncore_vm = true\ncore_vm_memory = 104\ncore_vm_accel = "tcg"'
    )
    run(pytester).stdout.fnmatch_lines(["core_vm: *tcg (asked for)", "core_vm: *, 104 MiB, *"])


def test_image_in_the_ini_file_is_meant_from_there(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\ncore_vm = true\ncore_vm_image = images/mine")
    monkeypatch.chdir(pytester.mkdir("below"))
    pytester.makepyfile(**{"below/test_one": ONE_TEST})
    result = pytester.runpytest_inprocess(str(pytester.path / "below"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"ERROR: no machine can run: *{pytester.path}/images/mine*")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--core-vm-memory=much", "--core-vm-memory=much: this must be a whole number"),
        ("--core-vm-memory=10", "--core-vm-memory=10: this must be at least 64"),
        ("--core-vm-cpus=0", "--core-vm-cpus=0: this must be 1 to 255"),
        ("--core-vm-warm=-1", "--core-vm-warm=-1: this must be 0 to 1440"),
        ("--core-vm-accel=xen", "--core-vm-accel=xen: choose one of auto, kvm, hvf, tcg"),
        (
            "--core-vm-arch=vax",
            "--core-vm-arch=vax: there are no machines * Choose one of x86_64, *",
        ),
        ("--core-vm-cpu=a b", "--core-vm-cpu=a b: cannot use 'a b' as a processor. Give a model *"),
        ("--core-vm-network=x", "--core-vm-network=x: cannot use 'x' as network. *"),
        ("CORE_INFRA_VM=maybe", "CORE_INFRA_VM=maybe in the *: say true or false or require"),
        ("CORE_INFRA_VM_KEEP=all", "CORE_INFRA_VM_KEEP=all in the *: choose one of never, *"),
        ("core_vm_cpus = two", "core_vm_cpus in *tox.ini: *two*"),
        ("core_vm_keep = x", "core_vm_keep = x in *tox.ini: choose one of never, failed, always"),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_it_and_its_place(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    message: str,
) -> None:
    name, _, value = given.partition("=")
    if name.startswith("core"):
        pytester.makeini(f"[pytest]\n{given}")
    elif name.startswith("CORE"):
        monkeypatch.setenv(name, value)
    on = "" if name == "CORE_INFRA_VM" else "--core-vm"
    result = run(pytester, *(text for text in (on, given) if text.startswith("--")))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.stderr.lines if line] == [result.stderr.lines[0]]
    result.stderr.fnmatch_lines(f"ERROR: {message}")


def test_without_qemu_the_run_ends_with_what_to_install(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(pytester.mkdir("nothing")))
    result = run(pytester, "--core-vm")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: no machine can run: *qemu*", "Install it: apt-get *"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize("given", ["--core-vm=require", "CORE_INFRA_VM", "core_vm = require"])
def test_required_machines_are_not_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("PATH", str(pytester.mkdir("nothing")))
    if given == "CORE_INFRA_VM":
        monkeypatch.setenv(given, "require")
    elif "=" in given.removeprefix("--core-vm="):
        pytester.makeini(f"[pytest]\n{given}")
    result = run(pytester, *([given] if given.startswith("--") else []))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("ERROR: no machine can run: *qemu*")


def test_help_lists_every_option_with_its_variable_and_ini_form(pytester: pytest.Pytester) -> None:
    words = pytester.runpytest_inprocess("--help").stdout.str().split()
    for option in OPTIONS:
        assert {option.variable, f"{option.name}"} <= {word.rstrip(":.") for word in words}
        assert any(word.split("=")[0] == option.flag for word in words)
    assert f"{DEFAULT_MEMORY})." in words
