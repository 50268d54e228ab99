"""Starting programs, and what is known of them."""

from __future__ import annotations

import io
import math
import os
import re
import resource
import signal
import struct
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from core_infra.errors import InvalidError, TimeoutExpiredError, WrongStateError
from core_infra.process import (
    CannotStartError,
    FileExists,
    LogPattern,
    ProcessNotFoundError,
    ProgramNotFoundError,
    RunFailedError,
    RunOptions,
    RunTimeoutError,
    Service,
    Status,
    Stream,
)
from core_infra.process._reaper.registry import reaper
from process_programs import PYTHON, STUBBORN, output_of

if TYPE_CHECKING:
    from collections.abc import Callable


def test_run_returns_the_output(service: Service) -> None:
    assert service.run("sh", "-c", "echo out; echo err >&2") in ("out\nerr\n", "err\nout\n")
    assert service.list() == []


def test_a_failure_carries_code_command_and_output(service: Service) -> None:
    with pytest.raises(RunFailedError, match=r"(?s)exit code 3.*what went wrong") as caught:
        service.run("sh", "-c", "echo fine; echo what went wrong >&2; exit 3")
    error = caught.value
    assert error.exit_code == 3
    assert error.command[0] == "sh"
    assert (error.stdout, error.stderr) == (b"fine\n", b"what went wrong\n")
    assert sorted(error.output) == sorted(b"fine\nwhat went wrong\n")


def test_run_gives_nothing_to_read(service: Service) -> None:
    assert service.run("cat") == ""


def test_stdin_is_text_bytes_or_a_file(service: Service, tmp_path: Path) -> None:
    assert service.run_with_options(RunOptions("cat", stdin="text é")) == "text é"
    large = os.urandom(3 << 20)
    digest = service.run_with_options(RunOptions("wc", ["-c"], stdin=large))
    assert int(digest) == len(large)
    (tmp_path / "file").write_text("from a file")
    with (tmp_path / "file").open() as file:
        assert service.run_with_options(RunOptions("cat", stdin=file)) == "from a file"


def test_input_is_sent_until_it_is_closed(service: Service) -> None:
    process = service.start("cat")
    process.send_input("one\n")
    process.send_input(b"two\n")
    process.close_stdin()
    process.close_stdin()
    assert process.wait(30) == 0
    assert process.output() == "one\ntwo\n"
    with pytest.raises(WrongStateError, match="exited"):
        process.send_input("three\n")


def test_more_input_than_a_pipe_holds_blocks_nobody(service: Service, tmp_path: Path) -> None:
    reads_late = 'while [ ! -e "$1" ]; do sleep 0.01; done; wc -c'
    process = service.start("sh", "-c", reads_late, "sh", str(tmp_path / "read"))
    process.send_input(b"x" * (5 << 20))
    process.send_input("rest")
    process.close_stdin()
    (tmp_path / "read").touch()
    assert process.wait(30) == 0
    assert int(process.output()) == (5 << 20) + 4


def test_a_directory_and_an_environment(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    show = ["-c", "pwd -P; echo $INHERITED $OWN"]
    options = RunOptions("sh", show, dir=tmp_path, env={"OWN": "é"})
    assert service.run_with_options(options) == f"{tmp_path.resolve()}\nyes é\n"
    monkeypatch.setenv("INHERITED", "changed")
    assert service.run("sh", "-c", "echo $INHERITED") == "changed\n"
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert service.run("pwd", "-P").strip() == str(tmp_path.resolve())
    relative = RunOptions("pwd", ["-P"], dir="sub")
    assert service.run_with_options(relative).strip() == str(tmp_path.resolve() / "sub")
    clean = RunOptions("/usr/bin/env", env={"ONLY": "1"}, clean_env=True)
    assert service.run_with_options(clean) == "ONLY=1\n"


def test_programs_get_the_limits_and_the_umask_of_the_moment(service: Service) -> None:
    service.run("true")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    mask = os.umask(0o123)
    resource.setrlimit(resource.RLIMIT_NOFILE, (777, before[1]))
    try:
        assert service.run("sh", "-c", "ulimit -n; umask") == "777\n0123\n"
    finally:
        os.umask(mask)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_program_inherits_no_descriptor_but_those_passed(service: Service) -> None:
    kept, other = os.pipe()
    os.set_inheritable(other, True)  # noqa: FBT003 - the os module's signature
    options = RunOptions(PYTHON, ["-c", f"import os; os.write({other}, b'here')"])
    try:
        with pytest.raises(RunFailedError, match="Bad file descriptor"):
            service.run_with_options(options)
        service.run_with_options(
            RunOptions(PYTHON, options.args, pass_fds=[other], stdin=kept, merge=True)
        )
        assert os.read(kept, 10) == b"here"
    finally:
        os.close(kept)
        os.close(other)


# glibc's posix_spawn(), which Python 3.13's subprocess uses, ignores a signal of its own.
SPAWNS = "import os, sys; p = os.posix_spawn(sys.argv[1], sys.argv[1:], {}); os.waitpid(p, 0)"


@pytest.mark.parametrize(
    "starter",
    [[], ["sh", "-c", 'trap "" HUP INT QUIT USR1 CHLD; exec "$@"', "sh"], [PYTHON, "-c", SPAWNS]],
    ids=["plain", "nohup", "posix_spawn"],
)
def test_programs_have_no_signal_ignored_whatever_their_starter_has(starter: list[str]) -> None:
    script = (
        "from core_infra.process import Service\n"
        "with Service() as service:\n"
        "    print(service.run('grep', '-E', 'SigIgn|SigBlk', '/proc/self/status'))"
    )
    status = subprocess.check_output([*starter, PYTHON, "-c", script], text=True)
    assert status.split()[1::2] == ["0" * 16, "0" * 16]


@pytest.mark.parametrize(
    ("command", "directory", "error", "expected"),
    [
        ("no-such-program", None, ProgramNotFoundError, "no-such-program"),
        ("/no/such/program", None, FileNotFoundError, "/no/such/program"),
        ("true", "/no/such/directory", ProgramNotFoundError, "/no/such/directory"),
        ("/etc/passwd", None, CannotStartError, "Permission denied"),
    ],
)
def test_what_cannot_be_started_is_an_error(
    service: Service, command: str, directory: str | None, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        service.start_with_options(RunOptions(command, dir=directory))
    [process] = service.list()
    assert process.status is Status.FAILED
    assert process.exit_code is None
    assert process.done.is_set()
    assert isinstance(process.error, error)
    with pytest.raises(error, match=expected):
        process.wait()
    with pytest.raises(error, match=expected):
        service.run_with_options(RunOptions(command, dir=directory))


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"#!/no/such/interpreter\n", 0o755, "interpreter of .*/program is not there: /no/such"),
        (b"#!/bin/sh\r\n", 0o755, "ends in CR LF"),
        (b"#!/bin/sh\n", 0o644, "program is not executable"),
        (b"echo text\n", 0o755, "neither a program nor a script"),
        (b"\x7fELF\x02\x01\x01" + bytes(57), 0o755, "built for another kind of processor"),
        (None, 0o755, "program is a directory"),
    ],
)
def test_the_error_has_what_keeps_a_program_from_starting(
    service: Service, tmp_path: Path, content: bytes | None, mode: int, expected: str
) -> None:
    program = tmp_path / "program"
    if content is None:
        program.mkdir()
    else:
        program.write_bytes(content)
    program.chmod(mode)
    for command in (str(program), "program"):
        with pytest.raises((ProgramNotFoundError, CannotStartError), match=expected):
            service.run_with_options(RunOptions(command, env={"PATH": str(tmp_path)}))


def test_what_the_system_cannot_be_given_is_named(service: Service, tmp_path: Path) -> None:
    long = "x" * 200_000
    loop = tmp_path / "loop"
    loop.write_text(f"#!{loop}\n")
    loop.chmod(0o755)
    for options, expected in (
        (RunOptions("true", pass_fds=[0, 99_999]), r"pass_fds has \[99999\], not open"),
        (RunOptions("true", ["-n", long]), "argument 2 has 200000 bytes"),
        (RunOptions("true", env={"LONG": long}), "variable LONG has 200005 bytes"),
        (RunOptions(loop), "is a script for a script"),
    ):
        with pytest.raises(CannotStartError, match=expected):
            service.run_with_options(options)


def test_as_many_descriptors_as_allowed_are_passed(service: Service) -> None:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(248)]
    try:
        script = f"for fd in {' '.join(map(str, fds))}; do test -e /proc/self/fd/$fd || exit; done"
        options = RunOptions("sh", ["-c", f"{script}; echo all"], pass_fds=fds)
        assert service.run_with_options(options) == "all\n"
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("place", ["as it was linked", "at the end, as patchelf does"])
def test_the_error_has_a_missing_loader(service: Service, tmp_path: Path, place: str) -> None:
    binary = Path("/bin/true").read_bytes()
    found = re.search(rb"/lib[^\0]*/ld-[^\0]*\0", binary)
    assert found is not None
    missing = b"/no" + found[0][3:]
    if place.startswith("at the end"):
        header = struct.pack("=IIQ", 3, 4, found.start())  # a program header: PT_INTERP, readable
        assert header in binary
        binary = binary.replace(header, struct.pack("=IIQ", 3, 4, len(binary)), 1) + missing
    else:
        binary = binary.replace(found[0], missing, 1)
    (tmp_path / "program").write_bytes(binary)
    (tmp_path / "program").chmod(0o755)
    with pytest.raises(ProgramNotFoundError, match=r"loader of .*/program is not there: /no"):
        service.run(tmp_path / "program")


def test_a_variable_can_be_taken_away(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWAY", "there")
    options = RunOptions("sh", ["-c", "echo ${AWAY-unset}"], env={"AWAY": None})
    assert service.run_with_options(options) == "unset\n"


def test_all_mistakes_of_options_are_reported_at_once(service: Service) -> None:
    options = RunOptions("", "arguments", env={"A=B": "c"}, timeout=0, grace_period=-1)
    with pytest.raises(InvalidError) as caught:
        service.start_with_options(options)
    for expected in (
        "command is empty",
        "one string",
        "'A=B'",
        "timeout is 0",
        "grace_period is -1",
    ):
        assert expected in str(caught.value)
    assert service.list() == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"args": [5]}, "5 is not a string"),
        ({"args": iter(["a"])}, "give a list"),
        ({"env": {"NAME": 1}}, "'NAME'=1"),
        ({"env": ["NAME=1"]}, "give a dict"),
        ({"dir": 3}, "dir is 3"),
        ({"log": 3}, "log is 3"),
        ({"pass_fds": ["3"]}, "'3' is not a descriptor"),
        ({"pass_fds": range(3, 303)}, "pass_fds has 300 descriptors, more than 248"),
        ({"restart": "always"}, "give a RestartPolicy"),
        ({"buffer_size": 1.5}, "buffer_size is 1.5"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"stdin": 2.5}, "cannot read from 2.5"),
        ({"stdin": "\ud800"}, "give bytes"),
        ({"args": ["a\0b"]}, "a NUL character is in the command"),
        ({"args": ["\ud800"]}, "cannot encode are in the command"),
        ({"dir": "/\0/usr/bin/id"}, "a NUL character is in dir"),
        ({"dir": "\ud800"}, "cannot encode are in dir"),
        ({"dir": b"/"}, "give a path"),
        ({"log": "a\0b"}, "a NUL character is in log"),
        ({"env": {"NAME": "a\0b"}}, "no environment can have"),
        ({"env": {"NAME": "\ud800"}}, "no environment can have"),
        ({"pty_size": (0, 80)}, "pty_size is (0, 80)"),
        ({"stop_signal": 99}, "which is not a signal"),
        ({"linger": -1}, "linger is -1"),
        ({"stdin": io.StringIO("text")}, "cannot read from <_io.StringIO"),
    ],
)
def test_a_wrong_type_is_reported(service: Service, options: dict[str, Any], expected: str) -> None:
    for start in (service.start_with_options, service.run_with_options):
        with pytest.raises(InvalidError) as caught:
            start(RunOptions("cat", **options))
        assert expected in str(caught.value)
    assert service.list() == []


def test_what_cannot_be_asked_of_a_process_is_an_error(service: Service) -> None:
    process = service.start("cat")
    wrong: list[Callable[[], object]] = [
        lambda: process.stop(cast("Any", "soon")),
        lambda: process.wait(math.nan),
        lambda: process.wait_ready(FileExists("/none"), timeout=math.nan),
        lambda: process.signal(999),
        lambda: process.send_input(cast("Any", 3)),
        lambda: process.send_input("\ud800"),
    ]
    for ask in wrong:
        with pytest.raises(InvalidError):
            ask()
    assert process.is_running()


def test_programs_start_though_our_directory_is_gone(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert service.run("echo", "here") == "here\n"
    assert service.run_with_options(RunOptions("pwd", dir=tmp_path)) == f"{tmp_path}\n"
    assert service.start("true").info().dir.name == "cwd"


def test_info_tells_what_happened(service: Service) -> None:
    program = "x = bytearray(50 << 20)\nfor _ in range(10**6): pass"
    process = service.start(PYTHON, "-c", program)
    assert process.info().exit_code is None
    assert process.info().usage is None
    process.wait(30)
    info = process.info()
    assert (info.id, info.command, info.args) == ("proc-1", PYTHON, ("-c", program))
    assert (info.status, info.exit_code, info.pid) == (Status.EXITED, 0, process.pid)
    assert info.dir == Path.cwd()
    assert info.started_at is not None
    assert info.usage is not None
    assert info.usage.wall == info.duration > 0
    assert info.usage.user > 0
    assert info.usage.peak_memory > 50 << 20
    assert process.info().duration == info.duration


def test_the_list_and_its_end(service: Service) -> None:
    first = service.start("sleep", "60")
    second = service.start("true")
    second.wait(30)
    assert [process.id for process in service.list()] == ["proc-1", "proc-2"]
    assert service.running() == [first]
    assert service.get("proc-2") is second
    assert service.output("proc-2") == ""
    with pytest.raises(WrongStateError, match="still runs"):
        service.remove("proc-1")
    service.clear()
    assert service.list() == [first]
    service.kill("proc-1")
    assert first.status is Status.KILLED
    service.remove("proc-1")
    with pytest.raises(ProcessNotFoundError, match="proc-1"):
        service.get("proc-1")


def test_the_signal_that_was_asked_for_is_sent(service: Service) -> None:
    script = "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.01; done"
    process = service.start("sh", "-c", script)
    process.wait_ready(LogPattern("ready"))
    process.signal(signal.SIGUSR1)
    assert process.wait(30) == 5
    assert process.status is Status.EXITED
    assert "got it" in process.output()
    with pytest.raises(WrongStateError, match="exited"):
        process.signal(signal.SIGUSR1)


def test_who_is_ended_by_a_signal_is_killed(service: Service) -> None:
    process = service.start("sh", "-c", "kill -USR1 $$")
    assert process.wait(30) == -signal.SIGUSR1
    assert process.status is Status.KILLED


def test_stop_asks_first(service: Service) -> None:
    polite = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    process = service.start("sh", "-c", polite)
    process.wait_ready(LogPattern("ready"))
    process.stop(60)
    assert process.output().endswith("bye\n")
    assert (process.status, process.exit_code) == (Status.KILLED, 0)


def test_stop_does_not_ask_for_ever(service: Service) -> None:
    process = service.start("sh", "-c", STUBBORN)
    process.wait_ready(LogPattern("ready"))
    process.stop(0.05)
    assert process.exit_code == -signal.SIGKILL
    process.stop()
    process.kill()


def test_wait_has_an_end_but_the_process_does_not(service: Service) -> None:
    process = service.start("sleep", "60")
    with pytest.raises(TimeoutExpiredError, match="sleep"):
        process.wait(0.01)
    assert process.is_running()


def test_a_timeout_ends_a_program_even_if_a_grandchild_holds_its_pipe(service: Service) -> None:
    options = RunOptions("sh", ["-c", "echo before; (setsid sleep 600 &) ; sleep 600"], timeout=0.3)
    with pytest.raises(RunTimeoutError, match=r"0\.3 s") as caught:
        service.run_with_options(options)
    assert caught.value.output == b"before\n"
    assert service.leftovers() == []


def test_a_program_is_over_even_if_a_grandchild_holds_its_pipe(service: Service) -> None:
    assert service.run("sh", "-c", "sleep 600 & echo done") == "done\n"
    [left] = service.leftovers()
    assert left.command == "sleep 600"


def test_a_service_that_is_shut_down_starts_nothing(service: Service) -> None:
    process = service.start("sleep", "60")
    service.shutdown()
    assert process.status is Status.KILLED
    with pytest.raises(WrongStateError, match="shut down"):
        service.start("true")
    service.shutdown()


def test_one_cannot_start_with_two_at_once_what_ends_with_both(service: Service) -> None:
    processes = [service.start("sh", "-c", STUBBORN) for _ in range(5)]
    for process in processes:
        process.wait_ready(LogPattern("ready"))
    threads = [threading.Thread(target=process.kill) for process in processes * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.running() == []


def test_detached_programs_outlive_the_service(tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(tmp_path / "go")
    with Service() as service:
        script = "read line < go; echo alive"
        options = RunOptions("sh", ["-c", script], dir=tmp_path, detach=True, log=log)
        process = service.start_with_options(options)
        service.leftovers()
        pid = process.pid
        assert pid is not None
        service.shutdown()
        assert process.is_running()
        (tmp_path / "go").write_text("go\n")
        assert process.wait(30) == 0
    assert log.read_text() == "alive\n"


def test_streams_can_be_distinguished(service: Service) -> None:
    script = "for i in 1 2 3; do echo out$i; echo err$i >&2; done"
    process = service.start("sh", "-c", script)
    process.wait(30)
    assert process.output(Stream.STDOUT) == "out1\nout2\nout3\n"
    assert process.output(Stream.STDERR) == "err1\nerr2\nerr3\n"


@pytest.mark.parametrize("timeout", [3e6, 1e300, math.inf])
def test_a_timeout_may_be_beyond_all_time(service: Service, timeout: float) -> None:
    options = RunOptions("echo", ["right"], timeout=timeout, grace_period=timeout)
    assert service.run_with_options(options) == "right\n"
    process = service.start_with_options(options)
    assert process.wait(30) == 0
    late = service.start_with_options(RunOptions("sleep", ["600"], timeout=0.01))
    assert late.wait(30) == -signal.SIGTERM  # the timer still runs


def test_a_timeout_waits_for_descriptors() -> None:
    assert output_of("without_descriptors") == "-15 []\n"


def test_a_finalizer_at_the_end_of_python_is_refused() -> None:
    assert output_of("finalizer") == "WrongStateError Python is ending\n"


def test_what_a_run_left_behind_can_go_on_writing(service: Service, tmp_path: Path) -> None:
    done = tmp_path / "done"
    daemon = f"(head -c 1000000 /dev/zero; touch {done}) &"  # more than a pipe holds
    service.run("sh", "-c", daemon)
    while not done.exists():
        os.sched_yield()


def test_runs_on_many_threads_do_not_disturb_each_other(service: Service) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        wrong.extend(
            output
            for turn in range(25)
            if (output := service.run("echo", f"{number} {turn}")) != f"{number} {turn}\n"
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_environment_may_be_larger_than_a_packet(service: Service) -> None:
    # A variable may have 128 KiB, and all together more.
    env = {f"LARGE_{number}": str(number) * 100_000 for number in range(5)}
    script = "import os; print(sum(len(v) for n, v in os.environ.items() if n[:6] == 'LARGE_'))"
    options = RunOptions(PYTHON, ["-c", script], env=env)
    assert service.run_with_options(options) == "500000\n"


def test_a_run_reports_that_the_reaper_was_killed(service: Service) -> None:
    service.run("true")
    script = f"import os, signal; os.kill({reaper().pid}, signal.SIGKILL); signal.pause()"
    with pytest.raises(RunFailedError) as caught:
        service.run(PYTHON, "-c", script)
    assert caught.value.exit_code == -signal.SIGKILL
    assert service.run("echo", "again") == "again\n"
