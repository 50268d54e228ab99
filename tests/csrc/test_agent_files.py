"""The guest agent reads and writes files."""

from __future__ import annotations

import errno
import os
import stat
import tty
from typing import TYPE_CHECKING

import pytest

from agent_process import KEEP_MODE, Agent
from core_infra.vm._guest.protocol import Done, FrameType, Outcome

if TYPE_CHECKING:
    from pathlib import Path

BYTES = bytes(range(256)) * 8192


def test_write_and_read_back(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    assert agent.write(path, BYTES).outcome == Outcome.EXITED
    assert path.read_bytes() == BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert agent.read(path).stdout == BYTES
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_file(agent: Agent, tmp_path: Path) -> None:
    assert agent.write(tmp_path / "empty", b"").outcome == Outcome.EXITED
    result = agent.read(tmp_path / "empty")
    assert (result.stdout, result.done.outcome) == (b"", Outcome.EXITED)


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [(None, 0o600, 0o600), (0o750, KEEP_MODE, 0o750), (0o750, 0o4711, 0o4711)],
)
def test_mode(agent: Agent, tmp_path: Path, before: int | None, asked: int, after: int) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_text("old")
        path.chmod(before)
    assert agent.write(path, b"new", asked).outcome == Outcome.EXITED
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", after)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_stays(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 1234, 4321)
    agent.write(path, b"new")
    assert (path.read_text(), path.stat().st_uid, path.stat().st_gid) == ("new", 1234, 4321)


def test_the_old_file_is_there_until_eof(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    agent.open_write(path)
    agent.send(FrameType.DATA, 1, b"new")
    agent.send(FrameType.PING, 9)
    agent.next_of(9)
    assert path.read_text() == "old"
    agent.send(FrameType.EOF, 1)
    agent.next_of(1)
    assert path.read_text() == "new"


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_written_through(agent: Agent, tmp_path: Path, there: bool) -> None:  # noqa: FBT001
    target, link, chain = tmp_path / "run" / "target", tmp_path / "link", tmp_path / "chain"
    link.symlink_to("run/target")
    chain.symlink_to(link)
    if there:
        target.parent.mkdir()
        target.write_text("old")
    assert agent.write(chain, b"new").outcome == Outcome.EXITED
    assert target.read_text() == "new"
    assert link.is_symlink()
    assert chain.is_symlink()


def test_a_loop_of_links(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = agent.write(tmp_path / "loop", b"")
    assert (done.outcome, done.code) == (Outcome.FAILED, errno.ELOOP)


@pytest.mark.parametrize("how", ["signal", "hello", "protocol error"])
def test_an_abandoned_write_leaves_nothing(agent: Agent, tmp_path: Path, how: str) -> None:
    agent.open_write(tmp_path / "file")
    agent.send(FrameType.DATA, 1, b"half")
    agent.send(FrameType.PING, 9)
    agent.next_of(9)
    assert len(list(tmp_path.iterdir())) == 1
    if how == "signal":
        agent.signal(1)
        assert Done.decode(agent.next_of(1).payload).outcome == Outcome.SIGNALED
    elif how == "hello":
        agent.hello()
    else:
        agent.socket.sendall(b"this is no frame")
        assert agent.next().type == FrameType.PROTOCOL_ERROR
    assert list(tmp_path.iterdir()) == []


# Only what this host can bear if the agent is broken: nothing can be created or renamed in these
# two file systems.
def test_a_device_is_written_straight(agent: Agent) -> None:
    host, terminal = os.openpty()
    tty.setraw(terminal)
    path = os.ttyname(terminal)
    try:
        assert agent.write(path, b"to the terminal").outcome == Outcome.EXITED
        assert os.read(host, 100) == b"to the terminal"
    finally:
        os.close(terminal)
        os.close(host)


def test_proc_is_written_straight(agent: Agent) -> None:
    assert agent.write("/proc/self/comm", b"renamed").outcome == Outcome.EXITED
    assert agent.read("/proc/self/comm").stdout == b"renamed\n"
    done = agent.write("/proc/self/oom_score_adj", b"no number")
    assert (done.outcome, done.code) == (Outcome.FAILED, errno.EINVAL)
    assert '"/proc/self/oom_score_adj"' in done.message


def test_no_more_room(agent_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with Agent(agent_path, wrapper=["prlimit", "--fsize=100000"]) as agent:
        done = agent.write(path, BYTES)
        assert (done.outcome, done.code) == (Outcome.FAILED, errno.EFBIG)
        assert agent.run("echo", "fine").stdout == b"fine\n"
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", errno.EISDIR),
        ("/proc/no/", errno.EISDIR),
        ("", errno.EISDIR),
        ("/proc/version/below", errno.ENOTDIR),
        ("/proc/no-such", errno.ENOENT),
        ("/tmp/" + "x" * 300, errno.ENAMETOOLONG),
        ("/proc/" + "x/" * 3000, errno.ENAMETOOLONG),
    ],
)
def test_what_cannot_be_written(agent: Agent, path: str, code: int) -> None:
    done = agent.write(path, b"data")
    assert (done.outcome, done.code) == (Outcome.FAILED, code)
    assert path[:100] in done.message
    assert agent.run("echo", "fine").stdout == b"fine\n"


@pytest.mark.parametrize(
    ("path", "code"), [("/", errno.EISDIR), ("/no/such", errno.ENOENT), ("", errno.ENOENT)]
)
def test_what_cannot_be_read(agent: Agent, path: str, code: int) -> None:
    done = agent.read(path).done
    assert (done.outcome, done.code) == (Outcome.FAILED, code)
    assert f'"{path}"' in done.message


def test_a_fifo_is_not_read(agent: Agent, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    done = agent.read(tmp_path / "fifo").done
    assert (done.outcome, done.code) == (Outcome.FAILED, errno.EINVAL)


def test_an_endless_read_is_ended_by_a_signal(agent: Agent) -> None:
    agent.send(FrameType.READ, 1, b"\x09\0\0\0/dev/zero")
    assert set(agent.next_of(1).payload) == {0}
    agent.signal(1, 9)
    while (frame := agent.next_of(1)).type == FrameType.STDOUT:
        pass
    assert Done.decode(frame.payload).outcome == Outcome.SIGNALED
