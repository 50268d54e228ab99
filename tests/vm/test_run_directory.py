"""Run directories: made, swept when their owner is dead, never taken from the living."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core_infra.errors import InvalidError
from core_infra.vm._run_directory import (
    RECORD,
    RunDirectory,
    base_directory,
    kept_machines,
    write_record,
)
from support import is_running, wait_gone

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(autouse=True)
def own_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def dead_run() -> Path:
    """The directory of a run whose process was killed."""
    with subprocess.Popen(
        [sys.executable, PROGRAMS / "run_owner.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        path = Path(owner.stdout.readline().decode().strip())
        owner.kill()
    return path


def test_closing_leaves_nothing() -> None:
    run = RunDirectory()
    (run.path / "vm1").mkdir()
    run.close()
    assert list(base_directory().glob("*-*")) == []


def test_a_dead_run_is_swept_and_a_living_one_is_not() -> None:
    living = RunDirectory()
    dead = dead_run()
    assert dead.exists()
    other = RunDirectory()
    assert [entry.directory for entry in other.swept] == [dead]
    assert not dead.exists()
    assert living.path.exists()
    living.close()
    other.close()


def test_a_recorded_process_is_ended_only_if_it_is_that_process() -> None:
    dead = dead_run()
    with subprocess.Popen(["sleep", "600"]) as ours, subprocess.Popen(["sleep", "600"]) as stranger:
        for name, process in (("vm1", ours), ("vm2", stranger)):
            (dead / name).mkdir()
            write_record(dead / name, process.pid)
        record = json.loads((dead / "vm2" / RECORD).read_text())
        record["start_time"] -= 1  # the pid now belongs to somebody else
        (dead / "vm2" / RECORD).write_text(json.dumps(record))
        run = RunDirectory()
        wait_gone(ours.pid)
        assert [entry.ended for entry in run.swept] == [1]
        assert is_running(stranger.pid)
        stranger.kill()
        run.close()


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "3", '{"pid": "x"}', '{"pid": 1}', '{"pid": -1}']
)
def test_a_damaged_record_ends_nobody(damage: str) -> None:
    dead = dead_run()
    (dead / "vm1").mkdir()
    (dead / "vm1" / RECORD).write_text(damage)
    run = RunDirectory()
    assert [entry.ended for entry in run.swept] == [0]
    run.close()


def test_a_kept_machine_is_left_while_it_runs() -> None:
    run = RunDirectory()
    machine = run.path / "vm1"
    machine.mkdir()
    with subprocess.Popen(["sleep", "600"]) as process:
        write_record(machine, process.pid)
        kept = run.keep(machine)
        run.close()
        assert kept_machines() == [kept]
        RunDirectory().close()
        assert kept.exists()
        process.kill()
    after = RunDirectory()
    assert [entry.directory for entry in after.swept] == [kept]
    after.close()


def test_two_kept_machines_of_one_name_do_not_collide() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        kept = []
        for _ in range(2):
            run = RunDirectory()
            (run.path / "vm1").mkdir()
            write_record(run.path / "vm1", process.pid)
            kept.append(run.keep(run.path / "vm1"))
            run.close()
        assert sorted(kept) == kept_machines()
        assert len(set(kept)) == 2
        process.kill()


def test_somebody_elses_directory_is_refused(own_base: Path) -> None:
    (own_base / "theirs").mkdir()
    (own_base / f"core-infra-{os.getuid()}").symlink_to(own_base / "theirs")
    with pytest.raises(InvalidError, match="TMPDIR"):
        RunDirectory()


def test_many_at_once_never_sweep_each_other() -> None:
    many = [
        subprocess.Popen([sys.executable, PROGRAMS / "one_of_many_runs.py"], stdout=subprocess.PIPE)
        for _ in range(8)
    ]
    assert [process.communicate()[0] for process in many] == [b"0\n"] * 8
    assert list(base_directory().glob("*-*")) == []
