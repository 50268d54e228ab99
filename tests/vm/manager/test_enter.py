"""Commands and copies end when they should, by each way into a machine: the agent and SSH."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import TimeoutExpiredError
from core_infra.vm._access.file_copy import pull, push
from core_infra.vm._manager.stop import monitor
from machine_files import directory_of

if TYPE_CHECKING:
    from core_infra.vm._manager.manager import LinuxKitManager
    from core_infra.vm._manager.record import Container

SLOW_COPY = Path(__file__).parent / "programs" / "slow_copy.py"


@pytest.fixture(params=["shared", pytest.param("linuxkit_like", marks=pytest.mark.long)])
def entered(request: pytest.FixtureRequest) -> str:
    """The name of a machine: one is entered by the agent, one by SSH."""
    container: Container = request.getfixturevalue(request.param)
    return container.name


def test_a_command_whose_time_is_up_is_ended(manager: LinuxKitManager, entered: str) -> None:
    manager.exec(entered, "true", wait=300)
    # The second is an orphan, the third in a process group of its own.
    line = "echo before; (sleep 4721 &); timeout 4722 sleep 4723; echo after"
    with pytest.raises(TimeoutExpiredError, match=r"within 2 s in the machine: it wrote:\nbefore"):
        manager.exec(entered, line, timeout=2)
    gone = "while ps | grep -q '[0-9] sleep 472'; do sleep 0.1; done"
    assert manager.exec(entered, gone, timeout=300).exit_code == 0


def test_what_a_command_leaves_running_on_purpose_lives(
    manager: LinuxKitManager, entered: str
) -> None:
    started = manager.exec(entered, "setsid sleep 4724 </dev/null >/dev/null 2>&1 & echo $!")
    looked = manager.exec(entered, f"kill {started.stdout.strip()}")
    assert looked.exit_code == 0, looked.stderr


def test_an_error_comes_though_the_machine_hangs(manager: LinuxKitManager, entered: str) -> None:
    access = manager.enter(entered)
    folder = directory_of(manager, manager.find(entered))
    try:
        with access.start(["sh", "-c", "echo up; sleep 4725"], timeout=3) as process:
            output = process.chunks()
            assert next(output) == ("stdout", b"up\n")
            monitor(folder, "stop")
            with pytest.raises(TimeoutExpiredError):
                next(output)
        access.close()
    finally:
        monitor(folder, "cont")
    assert manager.exec(entered, "true").exit_code == 0


@pytest.mark.parametrize(("source", "number"), [("file", signal.SIGKILL), (".", signal.SIGTERM)])
def test_a_copy_that_is_ended_changes_nothing(
    manager: LinuxKitManager, entered: str, tmp_path: Path, source: str, number: signal.Signals
) -> None:
    (tmp_path / "file").write_text("a new content, of some length\n")
    manager.exec(entered, "rm -rf /srv/c; mkdir -p /srv/c; echo old >/srv/c/file").check()
    target = "/srv/c/file" if source == "file" else "/srv/c"
    line = [SLOW_COPY, manager.state.directory, entered, f"{tmp_path}/{source}", target]
    with subprocess.Popen([sys.executable, *map(str, line)], stdout=subprocess.PIPE) as copying:
        assert copying.stdout is not None
        assert copying.stdout.readline() == b"half\n"
        copying.send_signal(number)
        copying.wait(60)
    access = manager.enter(entered)
    try:
        # What was killed may leave its part; once the guest has ended it, the next copy removes it.
        for _ in range(100):
            push(access, f"{tmp_path}/file", "/srv/c/next")
            if manager.exec(entered, "ls -A /srv/c").stdout == "file\nnext\n":
                break
    finally:
        access.close()
    assert manager.exec(entered, "ls -A /srv/c; cat /srv/c/file").stdout == "file\nnext\nold\n"


def test_directories_go_into_those_that_are_there(
    manager: LinuxKitManager, entered: str, tmp_path: Path
) -> None:
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d/sub/file").write_text("one\n")
    (tmp_path / "d/link").symlink_to("sub/file")
    access = manager.enter(entered)
    try:
        for _ in range(2):  # the second time it is there
            push(access, f"{tmp_path}/d", "/srv/t/new")
        push(access, f"{tmp_path}/d/.", "/srv/t/new")
        pull(access, "/srv/t/new", f"{tmp_path}/back")
        pull(access, "/srv/t/new/d", f"{tmp_path}/back")
        pull(access, "/srv/t/new/d/.", f"{tmp_path}/back")
    finally:
        access.close()
    found = sorted(
        str(one.relative_to(tmp_path / "back")) for one in (tmp_path / "back").rglob("*")
    )
    assert found == ["d", "d/link", "d/sub", "d/sub/file", "link", "sub", "sub/file"]
    assert (tmp_path / "back/link").is_symlink()
    manager.exec(entered, "rm -r /srv/t").check()


def test_a_sparse_file_stays_sparse_and_keeps_its_time(
    manager: LinuxKitManager, entered: str, tmp_path: Path
) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.truncate(30 << 20)
        for at in (0, 11_000_001, (30 << 20) - 3):
            file.seek(at)
            file.write(b"abc")
    access = manager.enter(entered)
    try:
        push(access, str(source), "/srv/sparse")
        pull(access, "/srv/sparse", f"{tmp_path}/back")
    finally:
        access.close()
    told = manager.exec(entered, "stat -c %b /srv/sparse; rm /srv/sparse").stdout
    assert int(told) * 512 < 1 << 20
    back = tmp_path / "back"
    assert back.read_bytes() == source.read_bytes()
    assert back.stat().st_blocks * 512 < 1 << 20
    assert int(back.stat().st_mtime) == int(source.stat().st_mtime)
