"""Signal and end a program that runs as another user; argument: the file for its pid."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from core_infra.process import CannotKillError, Process, Service, _lifecycle, _stop_escalation
from core_infra.process._reaper import client
from core_infra.process._reaper.registry import reaper

for module in (_stop_escalation, _lifecycle, client):
    module.KILL_TIMEOUT = 3.0  # type: ignore[attr-defined] # imported there

OTHER = "setpriv --reuid=65534 --regid=65534 --clear-groups sleep 600"

pid_file = Path(sys.argv[1])
service = Service()


def attempt(what: str, work: Callable[[], object]) -> None:
    try:
        work()
        print(what, "returned")
    except CannotKillError as error:
        pids = getattr(error, "pids", None)
        print(what, pids == [int(pid_file.read_text())], "another user's" in str(error))


def start(command: str) -> Process:
    process = service.start("sh", "-c", command)
    while (
        not pid_file.exists()
        or "sleep" not in Path(f"/proc/{pid_file.read_text().strip() or 0}/comm").read_text()
    ):
        time.sleep(0.01)
    return process


process = start(f"echo $$ > {pid_file}; exec {OTHER}")
try:
    process.signal(1)
except Exception as error:  # noqa: BLE001 - the result
    print(type(error).__name__, "another user" in str(error))
switches = Path(f"/proc/{reaper().pid}/status")
attempt("kill", process.kill)
print(process.status, process.exit_code)
count = int(switches.read_text().split("nonvoluntary")[0].split(":")[-1])
print("rests", count < 500)
attempt("wait", process.wait)
attempt("shutdown", service.shutdown)
