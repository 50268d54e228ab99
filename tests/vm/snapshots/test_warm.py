"""Templates that stay warm between runs: who owns them and their clones, and when they end."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from click.testing import CliRunner

from core_infra._cli.vm import cache
from core_infra.vm import Launcher, Status
from core_infra.vm._run_directory import HELPERS, RunDirectory, base_directory
from core_infra.vm._snapshots import snapshot as files
from core_infra.vm._warm import client, protocol
from core_infra.vm._warm.client import cool, templates
from support import left_in, wait_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = Path(__file__).with_name("programs") / "warm_run.py"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of runs, with a helper of its own that ends with the test."""
    with tempfile.TemporaryDirectory(prefix="warm-", dir="/tmp") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        monkeypatch.setattr(tempfile, "tempdir", directory)
        base = base_directory()
        try:
            yield base
        finally:
            helpers = {helper_of(one) for one in templates()}
            cool()
            for pid in helpers:
                wait_gone(pid)
        RunDirectory().close()
        assert left_in(base) == []


def launcher(warm: float = 5, memory: int = 128) -> Launcher:
    return Launcher(accelerator="tcg", memory=memory, ready=0, warm=warm)


def helper_of(template: dict[str, Any]) -> int:
    return psutil.Process(template["pid"]).ppid()


def only() -> dict[str, Any]:
    (template,) = templates()
    return template


@contextlib.contextmanager
def another_run() -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A run in a process of its own, and the process ids of its machines."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, RUN], stdin=pipe, stdout=pipe, text=True) as run:
        assert run.stdout is not None
        try:
            yield run, [int(pid) for pid in run.stdout.readline().split()]
        finally:
            run.kill()


def test_the_next_run_clones_the_same_template(home: Path) -> None:
    with launcher() as first:
        ids = {first.clone().exec("cat /etc/machine-id", check=True).stdout for _ in range(2)}
        template = only()
    with launcher() as second:
        machine, other = second.clone(), second.clone()
        others = set(second.leaks())  # machines of this process in other directories of runs
        ids |= {one.exec("cat /etc/machine-id", check=True).stdout for one in (machine, other)}
        assert len(ids) == 4, "no two machines are the same"
        assert only()["pid"] == template["pid"]
        assert 0 < only()["bytes"] < 200 << 20
        assert psutil.Process(machine.pid).ppid() == helper_of(template)
        machine.snapshot("before")
        machine.write_text("/tmp/new", "x")
        machine.revert("before")
        assert machine.exec(["cat", "/tmp/new"]).exit_code == 1
        other.power_cut()
        other.power_on()
        machine.poweroff()
        assert machine.status is Status.STOPPED
        assert set(second.leaks()) <= others
    assert only()["pid"] == template["pid"]
    assert len(list(home.glob("run-*"))) == 1, "the helper's own"


def test_another_machine_has_another_template() -> None:
    with launcher(memory=128) as one, launcher(memory=256) as other:
        one.clone()
        other.clone()
    assert len({template["key"] for template in templates()}) == 2


def test_a_template_depends_on_each_file_and_on_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (files.MEMORY, files.STATE, files.CONSOLE):
        (tmp_path / name).write_bytes(b"content")
    files.write_snapshot(files.Snapshot(tmp_path, "key", "00", 1.0, {}))
    snapshot = files.read_snapshot(tmp_path)
    keys = {files.template_key(snapshot)}
    assert {files.template_key(files.read_snapshot(tmp_path))} == keys
    for name in (files.MEMORY, files.STATE):
        (tmp_path / "new").write_bytes(b"content")  # the same content in another file
        (tmp_path / "new").rename(tmp_path / name)
        keys.add(files.template_key(snapshot))
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    clock = SimpleNamespace(UTC=dt.UTC, datetime=SimpleNamespace(now=lambda _zone: tomorrow))
    monkeypatch.setattr("core_infra.vm._snapshots.snapshot.dt", clock)
    keys.add(files.template_key(snapshot))
    assert len(keys) == 4


def test_machines_end_with_a_run_that_is_killed_and_the_template_stays() -> None:
    with another_run() as (run, machines):
        template = only()
        run.kill()
        for pid in machines:
            wait_gone(pid)
    with launcher() as next_one:
        next_one.clone().exec("true", check=True)
        assert only()["pid"] == template["pid"]


def test_a_run_goes_on_without_the_helper() -> None:
    with launcher() as first:
        machine = first.clone()
        template = only()
        os.kill(helper_of(template), 9)
        wait_gone(template["pid"])
        assert machine.exec("echo hi").stdout == "hi\n"
        first.clone().exec("true", check=True)
    with launcher() as second:
        second.clone().exec("true", check=True)
        assert only()["pid"] != template["pid"]


def test_nothing_is_left_when_both_are_killed(home: Path) -> None:
    with another_run() as (run, machines):
        template = only()
        os.kill(helper_of(template), 9)
        run.kill()
        for pid in (*machines, template["pid"]):
            wait_gone(pid)
    assert list(home.glob(HELPERS))
    RunDirectory().close()  # the next run's, which uses no helper
    assert left_in(home) == []


def test_the_helper_ends_when_it_was_idle(home: Path) -> None:
    with launcher(warm=0.001) as first:
        first.clone()
        template, helper = only(), helper_of(only())
    wait_gone(helper)
    wait_gone(template["pid"])
    assert left_in(home) == []


# What the helper does with templates does not depend on what they are.


@pytest.fixture
def helper() -> Iterator[client.WarmHelper]:
    helper = client.WarmHelper(5)
    yield helper
    helper.close()


def begin(helper: client.WarmHelper) -> int:
    with Path(os.devnull).open("wb") as output:
        return helper.spawn(["sleep", "1000"], [], output).pid


def deposit(helper: client.WarmHelper, key: str) -> int:
    pid = begin(helper)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        helper.deposit(key, "00", {}, "a process", [ours.fileno()])
    return pid


def test_what_a_run_has_not_completed_ends_with_it(helper: client.WarmHelper) -> None:
    deposit(helper, "done")
    pid = begin(helper)
    helper.close()
    wait_gone(pid)
    assert only()["key"] == "done"


def test_templates_are_bounded_and_the_oldest_ends(helper: client.WarmHelper) -> None:
    pids = [deposit(helper, f"key{number}") for number in range(6)]
    assert [one["key"] for one in templates()] == ["key2", "key3", "key4", "key5"]
    for pid in pids[:2]:
        wait_gone(pid)
    assert cool() == 4
    for pid in pids[2:]:
        wait_gone(pid)


def test_a_template_that_has_died_is_not_used(helper: client.WarmHelper) -> None:
    pid = deposit(helper, "key")
    other = deposit(helper, "other")
    os.kill(pid, 9)
    wait_gone(pid)
    assert only()["pid"] == other


def test_the_cache_commands_list_and_end_templates(helper: client.WarmHelper) -> None:
    pid = deposit(helper, "key")
    listed = CliRunner().invoke(cache.command, ["list", "--json"])
    found = [row for row in json.loads(listed.stdout) if row["kind"] == "template"]
    assert [(row["key"], row["what"]) for row in found] == [("key", "a process, in memory")]
    assert found[0]["bytes"] > 0
    assert CliRunner().invoke(cache.command, ["cool"]).stdout == "1 ended\n"
    wait_gone(pid)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_another_user_is_refused(home: Path, helper: client.WarmHelper) -> None:
    deposit(helper, "secret")
    path = protocol.meeting_point()
    program = f"""
import os, socket, sys
os.setuid(65534)
helper = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    helper.connect({str(path)!r})
    helper.send(b'{{"request": "list"}}')
    print(helper.recv(1000))
except OSError as error:
    print(type(error).__name__)
"""

    def ask() -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert ask() == "PermissionError"
    home.parent.chmod(0o755)
    home.chmod(0o755)
    path.chmod(0o666)
    assert ask() in ("b''", "BrokenPipeError", "ConnectionResetError")
    home.chmod(0o700)
