"""A run that is killed with machines on networks leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core_infra.vm import Launcher
from support import left_in, wait_gone

PROGRAM = Path(__file__).parent / "programs" / "many_machines.py"


def processes_of(mark: Path) -> set[int]:
    """The processes that have *mark* in their environment."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes()
        except OSError:
            continue  # it has ended, or is another user's
        if f"READY={mark}\0".encode() in environment:
            found.add(int(path.name))
    return found


def places() -> set[str]:
    """What is shared by all processes of the host: memory, and sockets with a name."""
    sockets = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()}
    return {path.name for path in Path("/dev/shm").iterdir()} | sockets


@pytest.mark.soak
@pytest.mark.parametrize("_number", range(20))
def test_a_killed_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _number: int
) -> None:
    ready, runs = tmp_path / "ready", tmp_path / "runs"
    os.mkfifo(ready)
    runs.mkdir()
    monkeypatch.setenv("TMPDIR", str(runs))
    monkeypatch.setattr("tempfile.tempdir", None)
    command = [sys.executable, "-m", "pytest", "-q", "--core-vm", "-s", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        [*command, "--basetemp", tmp_path / "base", PROGRAM],
        env={**os.environ, "READY": str(ready)},
        stdin=subprocess.PIPE,
    ) as run:
        ready.read_bytes()
        started = processes_of(ready)
        assert len(started) > 12, "pytest, the reaper, the switch, a gateway, ten machines"
        run.kill()
    for pid in started:
        wait_gone(pid)
    assert not processes_of(ready)
    assert not [place for place in places() if str(tmp_path) in place]
    with Launcher() as following:
        assert len(following.run.swept) == 1  # its files, by the next one
    (left,) = runs.iterdir()
    assert left_in(left) == []
