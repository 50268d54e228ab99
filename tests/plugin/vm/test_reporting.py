from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import left_in, section

SHOWN = """
    def test_much(core_vm):
        core_vm.write_text("/srv/note", "x")
        for number in range(50):
            core_vm.exec(f"echo number {number}")
        print("captured")
        assert 0
"""

FAILING = """
    import pytest

    def test_call(core_vm):
        core_vm.exec("echo one; echo two >&2; exit 3")
        core_vm.exec("echo last words > /dev/console")
        core_vm.exec(["ls", "/no such place"], check=True)

    @pytest.fixture
    def before(core_vm):
        core_vm.exec("echo early")
        assert 0, "setup failed"

    @pytest.fixture
    def after(core_vm):
        yield
        core_vm.exec("echo late")
        assert 0, "teardown failed"

    def test_cause(core_vm):
        core_vm.exec("echo '\\33[1mfatal' > /var/log/app.log; printf '#!/no/such\\n' > /srv/app")
        core_vm.exec("chmod 755 /srv/app; mount -t tmpfs -o ro none /mnt; date -s 2020-01-01")
        core_vm.exec("mkfifo /srv/fifo; read x < /srv/fifo", timeout=0.5)

    def test_setup(before): pass

    def test_teardown(after): pass

    @pytest.mark.core_vm(timeout=0.1, cold=True)
    def test_boot(core_vm): pass
"""


def test_a_failing_test_shows_what_its_machines_did(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(test_it=FAILING)
    result = pytester.runpytest_subprocess("--core-vm")
    result.assert_outcomes(failed=2, passed=1, errors=3)
    lines = result.stdout
    call = section(lines.str(), "_ test_call _")
    assert "GuestCommandError: command failed in the guest: ls '/no such place'" in call
    assert "guest.py" not in call, "frames of the library are shown"
    order = ("GuestCommandError", "step by step", "its console", "what has changed")
    assert [call.index(part) for part in order] == sorted(call.index(part) for part in order)
    assert "last words" in call
    assert "Linux version" not in call, "the console before the test is shown"
    assert "$ echo one; echo two >&2; exit 3\n  exit code 3, " in call
    assert "stdout | one\n  stderr | two" in call
    assert "$ ls '/no such place'\n  exit code 1, " in call
    assert "stderr | ls: /no such place: No such file or directory" in call
    cause = section(lines.str(), "_ test_cause _")
    assert "opens /srv/fifo" in cause.partition("waited | ")[2].partition("\n")[0]
    assert re.search(r"^clock: \d{4} days behind the host's$", cause, re.MULTILINE)
    assert "  /srv/app needs /no/such, which is not there\n" in cause
    assert "  mounted    /mnt read-only\n" in cause
    assert "the end of /var/log/app.log:\n  | \\x1b[1mfatal\n" in cause
    assert "$ echo early" in section(lines.str(), "_ ERROR at setup of test_setup _")
    assert "$ echo late" in section(lines.str(), "_ ERROR at teardown of test_teardown _")
    log = Path(call.partition("(all of it: ")[2].partition(")\n")[0])
    assert log.is_relative_to(pytester.path)
    assert "Linux version" in log.read_text()
    assert "last words" in log.read_text()
    boot = section(lines.str(), "_ ERROR at setup of test_boot _")
    assert "did not come up" in boot
    assert "The above exception" not in boot
    assert len(boot.splitlines()) < 10
    lines.fnmatch_lines("core_vm: 4 machines, started in *.* s (median), *")
    assert left_in(runs) == []


@pytest.mark.parametrize("args", [("-n1", "--tb=short"), ("-vv",)], ids=str)
def test_a_report_is_bounded_unless_all_is_asked_for(
    pytester: pytest.Pytester, runs: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    del runs
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path.parent))
    pytester.makepyfile(test_it=SHOWN)
    result = pytester.runpytest_subprocess("--core-vm", *args)
    result.assert_outcomes(failed=1)
    text = section(result.stdout.str(), "_ test_much _")
    shown = sum(line.startswith("+") and "$ echo number" in line for line in text.splitlines())
    assert shown == (50 if args == ("-vv",) else 29)
    assert ("steps are left out (-vv shows all)" in text) == (shown < 50)
    assert "created  /srv/note" in text
    assert text.index("step by step") < text.index("Captured stdout call")
    (note,) = (line for line in result.outlines if line.startswith("::error "))
    assert note.startswith(f"::error file={pytester.path.name}/test_it.py,line=6,title=test_it.py")
    assert "%0A+" in note
    assert "$ echo number 49%0A  exit code 0" in note
