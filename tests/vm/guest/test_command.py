"""Commands in a real machine."""

import hashlib
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_infra.errors import InvalidError
from core_infra.vm import (
    GuestCommandError,
    GuestCommandTimeoutError,
    GuestOperationError,
    Machine,
)
from core_infra.vm._guest.protocol import Frame, ProtocolError


def test_output_exit_code_and_duration(machine: Machine) -> None:
    result = machine.exec("echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert 0 < result.duration < 60


def test_a_list_is_not_seen_by_a_shell(machine: Machine) -> None:
    assert machine.exec(["echo", "$HOME", "a  b", "*"]).stdout == "$HOME a  b *\n"


def test_check_raises_with_the_output(machine: Machine) -> None:
    with pytest.raises(GuestCommandError, match="no luck") as caught:
        machine.exec("echo no luck >&2; exit 9", check=True)
    assert caught.value.exit_code == 9
    assert caught.value.stderr == b"no luck\n"


def test_a_signal_is_a_negative_exit_code(machine: Machine) -> None:
    assert machine.exec("kill -TERM $$").exit_code == -signal.SIGTERM


def test_environment_directory_and_user(machine: Machine) -> None:
    result = machine.exec(
        'echo "$A|$PWD|$(id -un)|$HOME"', env={"A": "1 = 2\n3"}, cwd="/tmp", user="nobody"
    )
    assert result.stdout.startswith("1 = 2\n3|/tmp|nobody|")
    assert machine.exec('echo "$(id -un)|$PWD|$HOME"').stdout == "root|/root|/root\n"


def test_a_user_has_its_groups(machine: Machine) -> None:
    before = machine.read_text("/etc/group")
    own = "first:x:1001:someone,nobody\nother:x:1002:nobody2\nlast:x:1003:nobody\n"
    machine.write_text("/etc/group", own)
    try:
        assert machine.exec("id -G", user="nobody").stdout == "65534 1001 1003\n"
    finally:
        machine.write_text("/etc/group", before)


def test_input_text_and_bytes(machine: Machine) -> None:
    assert machine.exec("cat", input="grüß dich\n").stdout == "grüß dich\n"
    assert machine.exec("cat", input=b"\0\xff\r\n").stdout_bytes == b"\0\xff\r\n"
    assert machine.exec("cat").stdout == ""


def test_megabytes_there_and_back_unchanged(machine: Machine) -> None:
    data = hashlib.shake_256(b"seed").digest(8 << 20)
    assert machine.exec("cat", input=data).stdout_bytes == data


def test_64_mib_of_random_bytes_and_the_exit_code(machine: Machine) -> None:
    data = os.urandom(64 << 20)
    result = machine.exec("cat; exit 5", input=data)
    assert result.exit_code == 5
    assert result.stdout_bytes == data


def test_100_kb_of_arguments(machine: Machine) -> None:
    arguments = [f"argument-{number:06}" for number in range(6000)]
    result = machine.exec(["sh", "-c", 'echo "$# $1"; printf %s "$*" | wc -c', "sh", *arguments])
    assert result.stdout == f"6000 argument-000000\n{len(' '.join(arguments))}\n"
    one = "x" * 100_000
    assert machine.exec(["printf", "%s", one]).stdout == one


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    arguments=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))),
    data=st.binary(max_size=5000),
)
def test_arguments_and_input_arrive_as_they_are(
    machine: Machine, arguments: list[str], data: bytes
) -> None:
    result = machine.exec(["sh", "-c", r'printf "%s\0" "$@"; cat', "sh", *arguments], input=data)
    want = b"".join(arg.encode() + b"\0" for arg in arguments) or b"\0"
    assert result.stdout_bytes == want + data


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"command": ["/no/such/program"]}, "/no/such/program"),
        ({"command": "true", "cwd": "/no/such/dir"}, "/no/such/dir"),
        ({"command": "true", "user": "no-such-user"}, "no-such-user"),
    ],
)
def test_what_cannot_start_is_named(
    machine: Machine, options: dict[str, object], named: str
) -> None:
    with pytest.raises(GuestOperationError, match=named):
        machine.exec(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"command": []},
        {"command": ["echo", "a\0b"]},
        {"command": "echo a\0b"},
        {"command": "true", "env": {"A": "\0"}},
        {"command": "true", "env": {"": "x"}},
        {"command": "true", "env": {"A=B": "x"}},
        {"command": "true", "cwd": "/\0"},
        {"command": "true", "user": "\0"},
        {"command": "true", "timeout": -1},
        {"command": "true", "timeout": float("nan")},
    ],
)
def test_what_no_system_can_run_is_refused_and_harms_nothing(
    machine: Machine, options: dict[str, object]
) -> None:
    with pytest.raises(InvalidError):
        machine.exec(**options)  # type: ignore[arg-type]
    with pytest.raises(InvalidError):
        machine.read_bytes("/etc/\0")
    assert machine.exec("echo on").stdout == "on\n"


def test_a_session_that_broke_begins_anew(machine: Machine) -> None:
    with machine.stream("echo begun; sleep 600") as process:
        assert next(iter(process)) == "begun"
        machine._agent()._send(Frame(0x7F, 1))
        with pytest.raises(ProtocolError, match="unknown type"):
            process.wait(60)
    assert machine.exec("echo back").stdout == "back\n"


def test_a_command_that_never_ends_is_killed_with_its_children(machine: Machine) -> None:
    with pytest.raises(GuestCommandTimeoutError, match="begun") as caught:
        machine.exec("echo begun; sleep 4321 & sleep 4321", timeout=1)
    assert caught.value.stdout == b"begun\n"
    machine.wait_until_succeeds("! pgrep -f 'sleep 4321'")


def test_a_left_over_in_the_background_delays_nothing(machine: Machine) -> None:
    result = machine.exec("while :; do echo noise; sleep 0.01; done & echo pid $!")
    found = re.search(r"pid (\d+)", result.stdout)
    assert found
    machine.exec(["kill", found[1]], check=True)  # it is still there


def test_ten_at_once(machine: Machine) -> None:
    outputs: dict[int, str] = {}

    def work(number: int) -> None:
        command = f"cat; seq 1 {number * 1000}"
        outputs[number] = machine.exec(command, input=f"{number}\n" * 1000).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(10):
        counted = "".join(f"{n}\n" for n in range(1, number * 1000 + 1))
        assert outputs[number] == f"{number}\n" * 1000 + counted


def test_a_stalled_stream_stalls_nobody_else(machine: Machine) -> None:
    with machine.stream("yes") as stalled:
        assert machine.exec("echo free").stdout == "free\n"
        assert next(iter(stalled)) == "y"
        assert stalled.is_running()
    machine.wait_until_succeeds("! pgrep -x yes")


def test_stream_tells_lines_and_their_stream(machine: Machine) -> None:
    with machine.stream("echo one; sleep 0.2; echo two >&2; sleep 0.2; printf three") as process:
        lines = [(line, line.stream) for line in process]
    assert lines == [("one", "stdout"), ("two", "stderr"), ("three", "stdout")]
    assert process.exit_code == 0


def test_stream_is_a_conversation(machine: Machine) -> None:
    with machine.stream("while read line; do echo got $line; done; exit 6") as process:
        lines = iter(process)
        process.send_input("a\n")
        assert next(lines) == "got a"
        process.send_input("b\n")
        assert next(lines) == "got b"
        process.close_stdin()
        assert process.wait(60) == 6


def test_stream_can_be_signalled(machine: Machine) -> None:
    with machine.stream(
        "trap 'echo bye; exit 2' TERM; echo ready; while :; do sleep 0.01; done"
    ) as p:
        lines = iter(p)
        assert next(lines) == "ready"
        p.signal(signal.SIGTERM)
        # The shell may tell on stderr that its sleep was terminated, too.
        assert [line for line in lines if line.stream == "stdout"] == ["bye"]
        assert p.exit_code == 2


def test_the_clock_is_the_hosts(machine: Machine) -> None:
    before = time.time()
    guest = float(machine.exec(["date", "+%s"]).stdout)
    assert before - 2 < guest < time.time() + 2


def test_history_remembers_what_was_run(machine: Machine) -> None:
    machine.exec("echo remembered")
    assert machine.history[-1].stdout == "remembered\n"


def test_history_has_no_commands_but_the_tests_own(machine: Machine, tmp_path: Path) -> None:
    machine.exec("echo mine")
    machine.pull("/etc/hostname", tmp_path)
    assert machine.history[-1].stdout == "mine\n"


def test_repr_shows_the_output_but_not_all_of_it(machine: Machine) -> None:
    text = repr(machine.exec("echo some words; echo oh no >&2; exit 3"))
    assert "command='echo some words; echo oh no >&2; exit 3', exit_code=3" in text
    assert "stdout='some words\\n', stderr='oh no\\n'" in text
    text = repr(machine.exec(["seq", "100000"]))
    assert "command='seq 100000', exit_code=0" in text
    assert "100000\\n', stderr=''" in text
    assert len(text) < 1500


def test_200_in_a_row(machine: Machine) -> None:
    for number in range(200):
        assert machine.exec(["echo", str(number)]).stdout == f"{number}\n"


@pytest.mark.parametrize("command", [None, 7, b"ls", ["ls", 7], "\ud800"])
def test_what_is_no_command_is_told(machine: Machine, command: Any) -> None:
    with pytest.raises(InvalidError, match=r"cannot (run|pass)"):
        machine.exec(command)


@pytest.mark.parametrize("timeout", ["5", True, -1, float("nan")])
def test_what_is_no_timeout_is_told(machine: Machine, timeout: Any) -> None:
    for call in (machine.exec, machine.wait_until_succeeds):
        with pytest.raises(InvalidError, match="timeout of"):
            call("true", timeout=timeout)


@pytest.mark.parametrize("port", ["80", True, 0, 65536, 8.5, None])
def test_what_is_no_port_is_told(machine: Machine, port: Any) -> None:
    for call in (machine.port, machine.wait_for_port):
        with pytest.raises(InvalidError, match="no port"):
            call(port)


@pytest.mark.parametrize("name", ["", None, 3])
def test_what_is_no_name_is_told(machine: Machine, name: Any) -> None:
    with pytest.raises(InvalidError, match="cannot name a snapshot"):
        machine.snapshot(name)


@pytest.mark.parametrize("env", [{"A": 1}, {1: "A"}, ["A=b"], {"A": "\ud800"}])
def test_what_is_no_variable_is_told(machine: Machine, env: Any) -> None:
    with pytest.raises(InvalidError):
        machine.exec("true", env=env)


def test_what_is_no_input_is_told(machine: Machine) -> None:
    with pytest.raises(InvalidError, match="cannot write 5"):
        machine.exec("cat", input=5)  # type: ignore[arg-type]


def test_a_timeout_of_ages_is_for_ever(machine: Machine) -> None:
    assert machine.exec("echo hi", timeout=1e30).stdout == "hi\n"
