"""The capsule of a failed test: written by the run, opened after it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from support import left_in

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TESTS = """
    def test_fails(core_vm_factory):
        one, other = core_vm_factory(name="one"), core_vm_factory(name="other")
        one.exec("echo kept > /srv/note; sleep 4321 > /dev/null 2>&1 &")
        other.stop()
        assert one.exec("cat /srv/note; echo '<b>'").stdout == "", "as planned"

    def test_pair(core_network, core_vm_factory):
        net = core_network()
        server = core_vm_factory(name="server", networks=[net])
        client = core_vm_factory(name="client", networks=[net], disks=["64M"])
        server.exec("nc -l -p 9000 -e cat < /dev/null > /dev/null 2>&1 &")
        server.wait_for_port(9000)
        client.exec("echo stored | dd of=/dev/vda conv=fsync")
        client.exec("mkfifo /tmp/f; cat /tmp/f | nc server 9000 > /tmp/got 2>&1 &", check=True)
        # One open file for both: without a writer, cat and with it the connection would end.
        client.exec("exec 3> /tmp/f; sleep 4321 >&3 2>&1 & echo before >&3", check=True)
        client.wait_until_succeeds("grep before /tmp/got")
        net.link(server, client, delay=0.3)
        assert False, "as planned"

    def test_passes(core_vm):
        core_vm.exec("true")
"""


IN_PAIR = """
head -c 7 /dev/vda
ping -c 1 server | grep -o 'time=[0-9]*'
echo after > /tmp/f
until grep after /tmp/got; do sleep 0.1; done
"""
"""The connection is still the one of the test, and the link as slow as then."""


PAGES = ("--junitxml=it.xml", "--core-vm-report=out/run.html")


def cli(directory: Path, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "core_infra", "vm", *args]
    return subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False)


def data_of(page: Path) -> Any:
    """What a page shows."""
    (line,) = re.findall(r"^const data = (.*);$", page.read_text(), re.MULTILINE)
    return json.loads(line)


def test_a_machine_wakes_up_as_it_stood(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(test_it=TESTS)
    trace = "--core-vm-trace=retain-on-failure"
    result = pytester.runpytest_subprocess("--core-vm", "-n1", trace, *PAGES)
    result.assert_outcomes(passed=1, failed=2)
    directory = pytester.path / "core-vm-results"
    capsule, pair = sorted(directory.glob("*.capsule"))
    name = str(capsule.relative_to(pytester.path))
    assert name == "core-vm-results/test_it.py-test_fails.capsule"
    result.stdout.fnmatch_lines([f"{name} (*", f"enter *core-infra vm open {name}"])
    assert f'name="core_vm_capsule" value="{capsule}"' in (pytester.path / "it.xml").read_text()
    assert left_in(runs) == []

    result.stdout.fnmatch_lines(["core_vm: report: *out/run.html"])
    tests = data_of(pytester.path / "out" / "run.html")["tests"]
    assert [(one["name"], one["outcome"], one["worker"]) for one in tests] == [
        ("test_it.py::test_fails", "failed", "gw0"),
        ("test_it.py::test_pair", "failed", "gw0"),
        ("test_it.py::test_passes", "passed", "gw0"),
    ]
    assert [phase[0] for phase in tests[2]["phases"]] == ["setup", "call", "teardown"]
    assert (pytester.path / "out" / tests[1]["capsule"]).samefile(pair)
    assert (tests[1]["machines"], "as planned" in tests[1]["error"]) == (2, True)

    look = cli(
        pytester.path,
        "open",
        name,
        "sh",
        "-c",
        "cat /srv/note; hostname; ps | grep -c [s]leep.4321",
    )
    assert (look.returncode, look.stderr) == (0, "")
    note, host, found = look.stdout.split()
    assert (note, host, found) == ("kept", "one", "1")
    ended = cli(pytester.path, "open", f"{name}:other", "true")
    assert "the machine other cannot be woken: it did not run" in ended.stderr
    none = cli(pytester.path, "open", f"{name}:third", "true")
    assert "the capsule has no machine 'third': it has: one, other" in none.stderr
    assert left_in(runs) == []

    look = cli(pytester.path, "open", f"{pair}:client", "sh", "-c", IN_PAIR)
    assert (look.returncode, look.stderr) == (0, "")
    stored, time, after = look.stdout.split()
    assert (stored, after) == ("stored", "after")
    assert int(time.removeprefix("time=")) >= 600
    assert left_in(runs) == []

    shown = cli(pytester.path, "show", name)
    page = (pytester.path / shown.stdout.strip()).read_text()
    assert "as planned" in page
    assert "<b>" not in page
    refused = cli(pytester.path, "show", name, "-o", f"{name}/page.html")
    assert "cannot write" in refused.stderr
    assert "Traceback" not in refused.stderr
    capsule.write_bytes(capsule.read_bytes()[:-100])
    assert "is damaged" in cli(pytester.path, "open", name, "true").stderr


def test_capsules_of_all_tests_or_none(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(test_it=TESTS)
    directory = pytester.path / "core-vm-results"
    chosen = ("--core-vm", "-k", "not pair")
    pytester.runpytest_subprocess(*chosen, "--core-vm-trace=off").assert_outcomes(
        passed=1, failed=1
    )
    assert not directory.exists()
    pytester.runpytest_subprocess(*chosen, "--core-vm-trace=on")
    assert sorted(one.name for one in directory.glob("*.capsule")) == [
        "test_it.py-test_fails.capsule",
        "test_it.py-test_passes.capsule",
    ]
    assert left_in(runs) == []


STEPS = """
    import asyncio

    def test_note(core_vm):
        core_vm.exec("echo one > /srv/note")
        core_vm.exec("echo two >> /srv/note\\ntrue")
        with core_vm.stream("rm /srv/note; echo gone") as process:
            assert len(list(process)) == 1
        assert asyncio.run(core_vm.aio.exec("cat /srv/note")).exit_code == 0

    def test_pair(core_network, core_vm_factory):
        net = core_network()
        a = core_vm_factory(name="a", networks=[net], disks=["64M"])
        b = core_vm_factory(name="b", networks=[net])
        port = a.port(22)
        a.exec("echo first | dd of=/dev/vda conv=fsync")
        b.exec("ping -c 1 a", check=True)
        a.exec("echo later | dd of=/dev/vda conv=fsync")
        a.power_cut()
        b.exec("true")
        assert False, "as planned"

    def test_again(core_vm):
        core_vm.exec("true")
        core_vm.pause()
        assert False, "as planned"
"""


def test_a_machine_wakes_up_before_a_command(pytester: pytest.Pytester, runs: Path) -> None:
    pytester.makepyfile(test_it=STEPS)
    result = pytester.runpytest_subprocess(
        "--core-vm", "--core-vm-trace=retain-on-failure", "--core-vm-trace-steps=3"
    )
    result.assert_outcomes(failed=3)
    names = [
        f"core-vm-results/test_it.py-test_{name}.capsule" for name in ("note", "pair", "again")
    ]
    note, pair, again = names
    result.stdout.fnmatch_lines(
        [
            "*[[]1] $ echo one > /srv/note",
            "*[[]3] $ rm /srv/note; echo gone",
            f"before command [[]4]: core-infra vm open {note} --at 4  (or 2 to 3)",
        ]
    )
    assert left_in(runs) == []

    def at(name: str, number: object, command: str) -> subprocess.CompletedProcess[str]:
        return cli(pytester.path, "open", name, "--at", str(number), "sh", "-c", command)

    assert at(note, 2, "cat /srv/note").stdout == "one\n"
    assert at(note, "command 3", "cat /srv/note").stdout == "one\ntwo\n"
    assert at(note, 4, "ls /srv").stdout == ""
    assert "cannot go back to before command 1: it can to before 2, 3, 4" in at(note, 1, "").stderr
    assert "'x' is not the number of a command" in at(note, "x", "").stderr

    # Another machine of the network, which was on then, and has the frames and the disk of then.
    look = at(f"{pair}:a", 3, "head -c 6 /dev/vda; ping -c 1 b > /dev/null && hostname")
    assert (look.stdout, look.stderr) == ("first\na\n", "")
    assert at(pair, 4, "hostname").stdout == "b\n"
    assert "no machine 'a': it has: b" in at(f"{pair}:a", 4, "").stderr
    assert at(again, 1, "hostname").stdout == "vm2\n"  # it was paused at the end
    assert left_in(runs) == []

    page = data_of(pytester.path / cli(pytester.path, "show", note).stdout.strip())
    assert [one["number"] for one in page["moments"]] == [2, 3, 4]
    assert [one["number"] for one in page["machines"][0]["steps"]] == [1, 2, 3, 4]
    sizes = [(pytester.path / name).stat().st_size for name in (note, again)]
    assert sizes[0] < 1.2 * sizes[1]  # three states in little more than the room of one
