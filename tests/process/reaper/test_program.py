"""Hosts that limit the reaper."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import UnavailableError
from core_infra.process._reaper import program as reaper_program
from process_programs import program

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.process import Service

NO_PROC = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" "$@"']


def output_lines(command: list[str]) -> list[str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return done.stdout.splitlines()


# 10 is RLIMIT_LOCKS, which Python does not name.
@pytest.mark.parametrize(
    ("limits", "mark"),
    [((10,), "RLIMIT_RSS"), ((10, resource.RLIMIT_RSS), "RLIMIT_RTTIME")],
)
def test_a_mark_has_another_place_where_a_hard_limit_takes_its_own(
    limits: tuple[int, ...], mark: str
) -> None:
    lines = output_lines(program("escaping_trees", *map(str, limits)))
    assert lines == [
        f"RLIMIT_LOCKS has a hard limit: processes are marked in {mark} instead",
        "4 False",
    ]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone may do this")


@as_root
@pytest.mark.parametrize(
    ("host", "why"),
    [(NO_PROC, "is missing"), (["unshare", "-pf"], "belongs to another PID namespace")],
)
def test_trees_end_without_a_proc_of_ours(host: list[str], why: str) -> None:
    if subprocess.run([*host, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("nothing can be unshared here")
    assert output_lines([*host, *program("escaping_trees", "ready")]) == [
        f"/proc {why}: what a program has started is found by its mark alone",
        "4 False",
        "ready",
    ]


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
def test_another_users_process_is_reported(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"]
    command += program("other_users_process", str(pid_file))
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    finally:
        os.kill(int(pid_file.read_text()), 9)
    assert done.stdout.splitlines() == [
        "UnavailableError True",
        "kill True True",
        "killed None",
        "rests True",
        "wait True True",
        "shutdown True True",
    ]


def test_a_reaper_that_cannot_be_started_is_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = tmp_path / "reaper"
    binary.touch()
    monkeypatch.setattr(reaper_program, "host_program", lambda *_: binary)
    with pytest.raises(UnavailableError, match=r"reaper.*Permission denied"):
        reaper_program.start_reaper((0, 0))


def test_a_patched_select_is_reported() -> None:
    assert output_lines(program("under_gevent")) == ["UnavailableError True"]


def test_a_forked_child_does_not_keep_inputs_open(service: Service) -> None:
    process = service.start("cat")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)  # until the parent is through
        os._exit(0)
    os.close(read)
    try:
        process.close_stdin()
        assert process.wait(60) == 0
    finally:
        os.close(write)
        os.waitpid(pid, 0)
