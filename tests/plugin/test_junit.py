from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TESTS = """
    def test_fails(core_vm, core_process):
        core_vm.exec("printf 'said \\\\001 here'")
        core_process.run("true")
        core_process.start("cat")
        assert 0

    def test_passes(core_vm, core_vm_session): pass

    def test_other(): assert 0
"""


@pytest.mark.parametrize("args", [[], ["-n1", "-o", "junit_logging=all"]], ids=["alone", "xdist"])
def test_the_xml_has_what_reports_say_and_the_machines(
    pytester: pytest.Pytester, runs: Path, args: list[str]
) -> None:
    del runs
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("--core-vm", "--junitxml=it.xml", *args)
    result.assert_outcomes(passed=1, failed=2)
    root = ET.parse(pytester.path / "it.xml").getroot()  # noqa: S314 - pytest has written it
    cases = {case.get("name"): case for case in root.iter("testcase")}
    said = cases["test_fails"].findtext("system-out") or ""
    assert "its console since the test began" in said
    assert "said #x01 here" in said.replace("\\x01", "#x01")
    assert "cat (running)" in said
    assert "machine" not in (cases["test_other"].findtext("system-out") or "")
    facts = {
        name: {one.get("name"): one.get("value") for one in case.iter("property")}
        for name, case in cases.items()
    }
    assert facts["test_other"] == {}
    assert "$ printf" in (facts["test_fails"]["core_vm_last_step[vm1]"] or "")
    log = facts["test_fails"]["core_vm_console_log[vm1]"] or ""
    assert "Linux version" in (pytester.path / log).read_text()
    assert facts["test_passes"]["core_vm_machines"] == "2"
    assert (facts["test_passes"]["core_vm_image"] or "").startswith("default (Linux")
    assert facts["test_passes"]["core_vm_accelerator"] in {"tcg", "kvm", "hvf"}
    assert float(facts["test_passes"]["core_vm_machine_seconds"] or 0) > 0
