"""Hosts, and programs, that make it hard to end what was started."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from process_programs import DAEMON, PYTHON

from core_infra.errors import UnavailableError
from core_infra.process._reaper import program as reaper_program

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.process import Service

ESCAPE = f"""
import logging, os, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from core_infra.process import Service

def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

with Service() as other, Service() as service:
    other.start("sleep", "600")
    daemon = service.start({PYTHON!r}, "-c", {DAEMON!r})
    daemon.wait()
    pids = daemon.leftovers()
    daemon.kill()
    tree = service.start("sh", "-c", "sleep 600 & setsid sleep 600 & wait")
    while len(tree.leftovers()) < 3:
        pass
    pids += tree.leftovers()
    tree.kill()
    print(len(pids), any(map(runs, pids)))
"""

NO_PROC = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" "$@"']


def limited(*numbers: int) -> str:
    limits = "".join(f"resource.setrlimit({number}, (1000, 1000))\n" for number in numbers)
    return f"import resource\n{limits}"


def said_by(command: list[str], program: str) -> list[str]:
    done = subprocess.run(
        [*command, sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.splitlines()


# 10 is RLIMIT_LOCKS, which Python does not name.
@pytest.mark.parametrize(
    ("limits", "mark"),
    [((10,), "RLIMIT_RSS"), ((10, resource.RLIMIT_RSS), "RLIMIT_RTTIME")],
)
def test_a_mark_has_another_place_where_a_hard_limit_takes_its_own(
    limits: tuple[int, ...], mark: str
) -> None:
    said = said_by([], limited(*limits) + ESCAPE)
    assert said == [
        f"RLIMIT_LOCKS has a hard limit: processes are marked in {mark} instead",
        "4 False",
    ]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone may do this")


READY = """
from core_infra.process import LogPattern, TcpPort
with Service() as service:
    log = LogPattern(r"port ([0-9]+)")
    args = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    server = service.start(sys.executable, *args).wait_ready(log)
    server.wait_ready(TcpPort(int(log.match[1])))
    print("ready")
"""


@as_root
@pytest.mark.parametrize(
    ("host", "why"),
    [(NO_PROC, "is missing"), (["unshare", "-pf"], "belongs to another PID namespace")],
)
def test_trees_end_without_a_proc_of_ours(host: list[str], why: str) -> None:
    if subprocess.run([*host, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("nothing can be unshared here")
    assert said_by(host, ESCAPE + READY) == [
        f"/proc {why}: what a program has started is found by its mark alone",
        "4 False",
        "ready",
    ]


# Root without CAP_KILL may not kill another user's processes, as a user may not kill root's.
DENIED = """
import os, sys, time
from pathlib import Path
from core_infra.process import *
from core_infra.process import _lifecycle, _stop_escalation
from core_infra.process._reaper import client
from core_infra.process._reaper.registry import reaper as current

_stop_escalation.KILL_TIMEOUT = _lifecycle.KILL_TIMEOUT = client.KILL_TIMEOUT = 3

OTHER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "600"]

def attempt(what, work):
    try:
        work()
        print(what, "returned")
    except CannotKillError as error:
        print(what, error.pids == [int(Path(pid_file).read_text())], "another user's" in str(error))

pid_file = sys.argv[1]
shell = f"echo $$ > {pid_file}; exec " + " ".join(OTHER)

def start(command):
    process = service.start("sh", "-c", command)
    pid = ""
    while not pid.endswith("\\n"):
        time.sleep(0.01)
        pid = Path(pid_file).read_text() if Path(pid_file).exists() else ""
    while "sleep" not in Path(f"/proc/{pid.strip()}/comm").read_text():
        time.sleep(0.01)
    return process


service = Service()
process = start(shell)
try:
    process.signal(1)
except Exception as error:
    print(type(error).__name__, "another user" in str(error))
switches = f"/proc/{current().pid}/status"
attempt("kill", process.kill)
print(process.status, process.exit_code)
count = int(Path(switches).read_text().split("nonvoluntary")[0].split(":")[-1])
print("rests", count < 500)
attempt("wait", process.wait)
attempt("shutdown", service.shutdown)
"""


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
def test_another_users_process_is_told_of(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill", sys.executable, "-c", DENIED]
    try:
        done = subprocess.run(
            [*command, str(pid_file)], stdout=subprocess.PIPE, text=True, timeout=120, check=True
        )
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
    program = tmp_path / "reaper"
    program.touch()
    monkeypatch.setattr(reaper_program, "_binary", lambda: program)
    with pytest.raises(UnavailableError, match=r"reaper.*Permission denied"):
        reaper_program.start_reaper((0, 0))


PATCHED = """
import select, sys, types
sys.modules["gevent.monkey"] = types.SimpleNamespace(is_module_patched=lambda name: True)
from core_infra.process import Service
try:
    Service()
except Exception as error:
    print(type(error).__name__, "gevent" in str(error))
"""


def test_who_patches_select_is_told() -> None:
    assert said_by([], PATCHED) == ["UnavailableError True"]


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
