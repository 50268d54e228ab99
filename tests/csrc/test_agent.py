"""The guest agent runs commands: output, input, users, signals, and what is left behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from agent_process import HANG, NONCE, Agent, wait_for_end
from core_infra.vm._guest.protocol import WINDOW, Done, FrameType, Outcome, encode_thaw

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_output_and_exit_code(agent: Agent) -> None:
    result = agent.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert (result.done.outcome, result.done.code) == (Outcome.EXITED, 7)
    assert result.done.duration_ns > 0
    assert result.pid


def test_death_by_signal(agent: Agent) -> None:
    done = agent.run("sh", "-c", "kill -TERM $$").done
    assert (done.outcome, done.code) == (Outcome.SIGNALED, signal.SIGTERM)


def test_hello_tells_of_the_guest(agent: Agent) -> None:
    ack = agent.hello()
    assert ack.nonce == NONCE
    assert ack.info["version"] == "1"
    assert ack.info["arch"] == os.uname().machine
    assert ack.info["kernel"] == os.uname().release
    assert ack.info["pid"] == str(agent.process.pid)
    assert len(ack.info["boot_id"]) == 36


def test_hello_proves_memory_randomness_and_clock(agent_path: Path) -> None:
    agent = Agent(agent_path)
    before = time.time_ns()
    first, second, third = (agent.hello(bytes([number]) * 16).info for number in range(3))
    after = time.time_ns()
    agent.__exit__()
    assert [info["former"] for info in (first, second, third)] == ["", "00" * 16, "01" * 16]
    assert len({bytes.fromhex(info["random"]) for info in (first, second, third)}) == 3
    assert len(bytes.fromhex(first["random"])) == 16
    assert before <= int(first["clock"]) <= int(second["clock"]) <= int(third["clock"]) <= after


def test_64_mib_through_cat_with_a_reader_that_grants_late(agent: Agent) -> None:
    data = os.urandom(1 << 20) * 64
    agent.start(1, "cat")
    assert agent.finish(1, data, grant_at=WINDOW).stdout == data


def test_long_arguments(agent: Agent) -> None:
    words = [b"%d" % i + bytes(range(1, 256)) * 200 for i in range(4)]
    assert agent.run("printf", "%s", *words).stdout == b"".join(words)


def test_an_argument_longer_than_the_kernel_takes(agent: Agent) -> None:
    done = agent.run("echo", b"x" * 1_000_000).done
    assert (done.outcome, done.code) == (Outcome.FAILED, errno.E2BIG)


def test_the_environment_given_wins_over_the_base(agent: Agent) -> None:
    env = {b"LANG": b"de_DE.UTF-8", b"X": b"1=2", b"EMPTY": b""}
    lines = agent.run("env", env=env).stdout.splitlines()
    assert {b"LANG=de_DE.UTF-8", b"X=1=2", b"EMPTY="} <= set(lines)
    assert {line.split(b"=")[0] for line in lines} == {
        *(b"PATH", b"HOME", b"USER", b"LOGNAME", b"SHELL", b"TERM", b"LANG", b"X", b"EMPTY")
    }


def test_the_program_is_searched_in_the_path_given(agent: Agent, tmp_path: Path) -> None:
    program = tmp_path / "hello"
    program.write_text("#!/bin/sh\necho found $0\n")
    program.chmod(0o755)
    env = {b"PATH": b"/nowhere:" + os.fsencode(tmp_path)}
    assert agent.run("hello", env=env).stdout == b"found " + os.fsencode(program) + b"\n"


def test_directory(agent: Agent, tmp_path: Path) -> None:
    assert agent.run("pwd", cwd=os.fsencode(tmp_path)).stdout == os.fsencode(tmp_path) + b"\n"


@needs_root
@pytest.mark.parametrize("user", [b"nobody", b"65534"])
def test_another_user(agent_path: Path, user: bytes) -> None:
    script = "id -un; id -G; echo $USER $LOGNAME; pwd; echo by name > /dev/stdout"
    with Agent(agent_path, extra_groups=[1234]) as agent:
        result = agent.run("sh", "-c", script, user=user, cwd=b"/")
    assert result.stdout == b"nobody\n65534\nnobody nobody\n/\nby name\n"


def test_children_start_as_from_a_clean_slate(agent: Agent) -> None:
    status = agent.run("cat", "/proc/self/status").stdout
    assert b"SigBlk:\t0000000000000000" in status
    assert b"SigIgn:\t0000000000000000" in status
    assert agent.run("cat", "/proc/self/oom_score_adj").stdout == b"0\n"
    assert agent.run("sh", "-c", "ls /proc/$$/fd").stdout.split() == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("argv", "how", "code", "named"),
    [
        (["no-such-program"], {}, errno.ENOENT, '"no-such-program": no such program in /usr'),
        (["/no/such"], {}, errno.ENOENT, '"/no/such"'),
        ([""], {}, errno.ENOENT, '""'),
        (["/etc/passwd"], {}, errno.EACCES, '"/etc/passwd"'),
        (["echo"], {"user": b"nobody-knows"}, errno.ENOENT, 'no user "nobody-knows"'),
        (["echo"], {"cwd": b"/no/dir"}, errno.ENOENT, 'directory "/no/dir"'),
        (["echo"], {"cwd": b"/etc/passwd"}, errno.ENOTDIR, 'directory "/etc/passwd"'),
    ],
)
def test_what_cannot_be_started(
    agent: Agent, argv: list[str], how: dict[str, Any], code: int, named: str
) -> None:
    result = agent.run(*argv, **how)
    assert result.pid is None
    assert (result.done.outcome, result.done.code) == (Outcome.FAILED, code)
    assert named in result.done.message


def test_a_script_without_its_interpreter(agent: Agent, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = agent.run(os.fsencode(script)).done
    assert (done.outcome, done.code) == (Outcome.FAILED, errno.ENOENT)
    assert "interpreter" in done.message


def test_ten_commands_at_once(agent: Agent) -> None:
    for channel in range(1, 11):
        agent.start(channel, "sh", "-c", "read x; echo $x; exit $x")
    for channel in range(10, 0, -1):
        result = agent.finish(channel, b"%d\n" % channel)
        assert (result.stdout, result.done.code) == (b"%d\n" % channel, channel)


def test_a_host_that_does_not_grant_stops_one_command_only(agent: Agent) -> None:
    agent.start(1, "yes")
    end = os.pidfd_open(agent.started(1))
    size = 0
    while size < WINDOW:
        size += len(agent.next_of(1).payload)
    assert size == WINDOW
    assert agent.run("echo", "still here", channel=2).stdout == b"still here\n"
    assert not agent.others[1], "more than the window was sent"
    agent.grant(1, 1, 3)
    assert agent.next_of(1).payload == b"y\ny"
    agent.signal(1)
    wait_for_end(end)
    assert agent.run("echo", "and still", channel=2).stdout == b"and still\n"
    assert not agent.others[1], "DONE before the output was delivered"
    agent.grant(1, 1, WINDOW)
    result = agent.finish(1)
    assert result.done.code == signal.SIGKILL
    assert set(result.stdout) == set(b"y\n"), "what was in the pipe is lost"


def test_closed_input_is_dropped_but_granted(agent: Agent, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    agent.start(1, "sh", "-c", f"exec <&-; echo closed; read x < {fifo}; exit 3")
    agent.started(1)
    assert agent.next_of(1).payload == b"closed\n"
    granted = 0
    for _ in range(WINDOW // 65536):
        agent.send(FrameType.DATA, 1, bytes(65536))
    while granted < WINDOW:
        frame = agent.next_of(1)
        assert frame.type == FrameType.STDIN_GRANT
        granted += struct.unpack("<I", frame.payload)[0]
    fifo.write_text("go\n")
    assert agent.finish(1).done.code == 3


def test_a_signal_reaches_the_whole_group(agent: Agent) -> None:
    agent.start(1, "sh", "-c", "sleep 1000 & echo $!; wait")
    leader = os.pidfd_open(agent.started(1))
    child = os.pidfd_open(int(agent.next_of(1).payload))
    agent.signal(1)
    assert agent.finish(1).done.code == signal.SIGKILL
    wait_for_end(leader)
    wait_for_end(child)


def test_a_left_over_process_neither_delays_done_nor_dies_writing(
    agent: Agent, tmp_path: Path
) -> None:
    go, gone = tmp_path / "go", tmp_path / "gone"
    os.mkfifo(go)
    os.mkfifo(gone)
    later = f"read x < {go}; head -c 1000000 /dev/zero; echo $? > {gone}"
    result = agent.run("sh", "-c", f"({later}) & echo first")
    assert (result.stdout, result.done.code) == (b"first\n", 0)
    assert agent.run("sh", "-c", f"echo > {go}; cat {gone}").stdout == b"0\n"


def test_all_that_was_written_before_the_end_comes_before_done(agent: Agent) -> None:
    agent.start(1, "sh", "-c", "sleep 1000 & head -c 50000 /dev/zero; echo $! >&2")
    result = agent.finish(1)
    assert len(result.stdout) == 50000
    left_over = os.pidfd_open(int(result.stderr))
    signal.pidfd_send_signal(left_over, signal.SIGKILL)
    wait_for_end(left_over)


def test_hello_ends_all_commands(agent: Agent) -> None:
    agent.start(1, "sh", "-c", "sleep 1000 & echo $!; wait")
    agent.start(2, "yes")
    ends = [os.pidfd_open(agent.started(channel)) for channel in (1, 2)]
    ends.append(os.pidfd_open(int(agent.next_of(1).payload)))
    agent.hello(b"another session.")
    for end in ends:
        wait_for_end(end)
    assert agent.run("echo", "fresh").stdout == b"fresh\n"


def test_the_agents_end_ends_all_commands(agent_path: Path) -> None:
    with Agent(agent_path) as agent:
        agent.start(1, "sleep", "1000")
        end = os.pidfd_open(agent.started(1))
    wait_for_end(end)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_asked_to(agent_path: Path, number: int) -> None:
    with Agent(agent_path) as agent:
        assert agent.run("true").done.outcome is Outcome.EXITED
        agent.process.send_signal(number)
        assert agent.process.wait(HANG) == 0


def test_what_ends_the_agent_is_answered(agent_path: Path) -> None:
    with Agent(agent_path) as agent:  # as systemctl reboot: it ends, and so does the agent
        done = agent.run("sh", "-c", f"kill {agent.process.pid}; sleep 0.1").done
        assert (done.outcome, done.code) == (Outcome.EXITED, 0)
        assert agent.process.wait(HANG) == 0


def test_what_still_runs_when_it_ends_is_asked_to_end_as_well(
    agent_path: Path, tmp_path: Path
) -> None:
    trap = f"trap 'echo told >{tmp_path}/told; exit 0' TERM"
    script = f"{trap}; echo ready; while :; do sleep 0.01; done"
    with Agent(agent_path) as agent:
        agent.start(1, "sh", "-c", script)
        end = os.pidfd_open(agent.started(1))
        assert agent.next_of(1).payload == b"ready\n"
        agent.process.terminate()
        agent.start(2, "touch", f"{tmp_path}/late")
        while (frame := agent.next_of(1)).type != FrameType.DONE:
            assert frame.type == FrameType.STDERR, "the shell's word on its sleep"
        assert Done.decode(frame.payload).code == 0
        wait_for_end(end)
        assert agent.process.wait(HANG) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["told"]


@pytest.mark.parametrize("size", [0, 1, 65536])
def test_ping(agent: Agent, size: int) -> None:
    data = os.urandom(size)
    agent.send(FrameType.PING, 5, data)
    frame = agent.next()
    assert (frame.type, frame.channel, frame.payload) == (FrameType.PONG, 5, data)


def test_at_most_256_channels(agent: Agent) -> None:
    for channel in range(1, 257):
        agent.start(channel, "cat")
    done = agent.run("echo", channel=257).done
    assert (done.outcome, done.code) == (Outcome.FAILED, errno.EAGAIN)
    assert agent.finish(256, b"the last").stdout == b"the last"
    assert agent.run("echo", "room again", channel=257).stdout == b"room again\n"


def test_unknown_channels_are_ignored(agent: Agent) -> None:
    for kind in (FrameType.DATA, FrameType.EOF, FrameType.SIGNAL, FrameType.GRANT):
        agent.send(kind, 99, bytes(8))
    assert agent.run("echo", "fine").stdout == b"fine\n"


def test_the_machine_is_left_alone_without_guest_mode(agent_path: Path) -> None:
    # As nobody, so that this host stays up even if the agent does what it must not. Nobody may
    # have no way to where the agent is.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        _ask_to_act_on_the_machine(Path(shutil.copy(agent_path, directory)))


def _ask_to_act_on_the_machine(agent_path: Path) -> None:
    rights: dict[str, Any] = (
        {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    with Agent(agent_path, **rights) as agent:
        for kind, payload in [
            (FrameType.CLOCK, bytes(8)),
            (FrameType.RESEED, b"entropy"),
            (FrameType.POWEROFF, b"\0"),
            (FrameType.FREEZE, b""),
            (FrameType.THAW, encode_thaw(hostname=b"x", machine_id=b"y", mac=bytes(6))),
        ]:
            agent.send(kind, 1, payload)
            done = Done.decode(agent.next_of(1).payload)
            assert (done.outcome, done.code) == (Outcome.FAILED, errno.EPERM)
            assert "--guest" in done.message
