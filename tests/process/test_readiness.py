"""Waiting until a program is ready, and the error if it is not."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import InvalidError, TimeoutExpiredError
from core_infra.process import (
    Check,
    CommandSucceeds,
    FileExists,
    HttpStatus,
    LogPattern,
    NotReadyError,
    Probe,
    RestartPolicy,
    RunOptions,
    Service,
    TcpPort,
    UnixSocket,
)
from core_infra.process._listeners import sockets_of
from process_programs import PYTHON, program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.process import Process


@pytest.fixture
def server(service: Service, tmp_path: Path) -> Process:
    return service.start_with_options(RunOptions(PYTHON, program("ready_server")[1:], dir=tmp_path))


def test_every_kind_of_probe(server: Process, tmp_path: Path) -> None:
    log = LogPattern(r"listening on (\d+)\n")
    server.wait_ready(log)
    assert log.match is not None
    port = int(log.match[1])
    url = f"http://127.0.0.1:{port}/"
    answers = iter([0, 0, 1])
    ready = server.wait_ready(
        LogPattern("listening"),
        TcpPort(port),
        UnixSocket(tmp_path / "socket"),
        HttpStatus(url + "?a=b", status=204),
        HttpStatus(url + "busy", status=range(500, 600)),
        FileExists(tmp_path / "file"),
        CommandSucceeds(["test", "-e", str(tmp_path / "file")]),
        Check(lambda: next(answers)),
    )
    assert ready is server
    assert next(answers, None) is None


def raise_oops() -> object:
    raise ValueError("oops")


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (LogPattern("never said"), "no line matches in"),
        (TcpPort(1), "Connection refused"),
        (UnixSocket("/no/such"), "No such file"),
        (HttpStatus("http://127.0.0.1:1/"), "Connection refused"),
        (FileExists("/no/such"), "it does not exist"),
        (CommandSucceeds(["sh", "-c", "echo not yet >&2; exit 4"]), "exit code 4: not yet"),
        (CommandSucceeds(["no-such-program"]), "no-such-program"),
        (CommandSucceeds(["sleep", "60"]), "it still ran"),
        (Check(lambda: 0), "it returned 0"),
        (Check(raise_oops), "ValueError: oops"),
    ],
)
def test_the_error_has_all_that_is_known(server: Process, probe: Probe, expected: str) -> None:
    log = LogPattern(r"listening on (\d+)\n")
    server.wait_ready(log)
    assert log.match is not None
    with pytest.raises(NotReadyError) as caught:
        server.wait_ready(probe, timeout=0.7)
    text = str(caught.value)
    assert repr(probe) in text
    assert expected in text
    assert f"it still runs, as process {server.pid}" in text
    assert f"it listens on 127.0.0.1:{log.match[1]}" in text
    assert "listening on" in text
    assert isinstance(caught.value, TimeoutExpiredError)


def test_the_error_has_the_wrong_status(server: Process) -> None:
    log = LogPattern(r"listening on (\d+)\n")
    server.wait_ready(log)
    assert log.match is not None
    with pytest.raises(NotReadyError, match="the answer is 503"):
        server.wait_ready(HttpStatus(f"http://127.0.0.1:{log.match[1]}/busy"), timeout=2)


class SlowAfterwards:
    """Answers once, and then only when its time is up."""

    def __init__(self) -> None:
        self.checks = 0

    def check(self, process: Process, patience: float) -> str | None:  # noqa: ARG002 - of Probe
        self.checks += 1
        if self.checks == 1:
            return "the answer is 503"
        time.sleep(patience)
        return "timed out"


def test_a_check_that_the_end_of_the_time_cuts_short_hides_no_answer(service: Service) -> None:
    probe = SlowAfterwards()
    with pytest.raises(NotReadyError, match="the answer is 503"):
        service.start("sleep", "60").wait_ready(probe, timeout=1, interval=0.001)
    assert probe.checks > 1


def test_a_program_that_ends_is_not_waited_for(service: Service) -> None:
    process = service.start("sh", "-c", "echo cannot open config >&2; exit 3")
    before = time.monotonic()
    with pytest.raises(NotReadyError, match=r"(?s)ended.*exit code is 3.*cannot open config"):
        process.wait_ready(TcpPort(1), timeout=600)
    assert time.monotonic() - before < 300


def test_what_has_ended_is_not_ready(service: Service) -> None:
    process = service.start("echo", "ready")
    process.wait()
    log = LogPattern("ready")
    with pytest.raises(NotReadyError, match="it would be ready, but has ended"):
        process.wait_ready(log)
    assert log.match is not None


def test_a_daemon_becomes_ready_after_its_starter_has_ended(service: Service) -> None:
    process = service.start("sh", "-c", "(sleep 0.2; echo ready; sleep 60) &")
    process.wait_ready(LogPattern("ready"))
    assert process.exit_code == 0


def test_only_http_urls() -> None:
    with pytest.raises(InvalidError, match="ftp"):
        HttpStatus("ftp://host/")


def test_what_another_program_holds_is_not_its_own(service: Service, tmp_path: Path) -> None:
    stranger = service.start_with_options(
        RunOptions(PYTHON, program("socket_holder")[1:], dir=tmp_path)
    )
    log = LogPattern(r"\d+")
    stranger.wait_ready(log)
    assert log.match is not None
    port = int(log.match[0])
    url = f"http://127.0.0.1:{port}/"
    process = service.start_with_options(RunOptions("cat", dir=tmp_path))
    for probe in (
        TcpPort(port),
        TcpPort(port, "localhost"),
        HttpStatus(url),
        UnixSocket("stranger"),
    ):
        with pytest.raises(NotReadyError, match=f"another program's, process {stranger.pid}"):
            process.wait_ready(probe, timeout=0.2)
    process.wait_ready(TcpPort(port, any_program=True), UnixSocket("stranger", any_program=True))
    stranger.wait_ready(TcpPort(port), UnixSocket("stranger"))
    server = ["-m", "http.server", "-b", "127.0.0.1", str(port)]
    with pytest.raises(NotReadyError, match=r"(?s)ended before it was ready.*already in use"):
        service.start(PYTHON, *server).wait_ready(TcpPort(port))


ALL = str(ipaddress.IPv4Address(0))


@pytest.mark.parametrize(
    ("theirs", "their_host", "ours", "our_host"),
    [(ALL, "127.0.0.1", "::", "::1"), ("::", "::1", ALL, "127.0.0.1")],
)
def test_a_port_of_one_protocol_is_not_that_of_the_other(
    service: Service, theirs: str, their_host: str, ours: str, our_host: str
) -> None:
    log = LogPattern(r"\d+")
    service.start(*program("listener", theirs, "0")).wait_ready(log)
    assert log.match is not None
    port = int(log.match[0])
    process = service.start(*program("listener", ours, str(port))).wait_ready(log)
    process.wait_ready(TcpPort(port, our_host))
    with pytest.raises(NotReadyError, match="another program's"):
        process.wait_ready(TcpPort(port, their_host), timeout=0.2)


def test_a_socket_may_have_a_longer_path_than_the_kernel_takes(
    service: Service, tmp_path: Path
) -> None:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    serve = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('s'); s.listen(); input()"
    options = RunOptions(PYTHON, ["-c", serve], dir=directory)
    process = service.start_with_options(options).wait_ready(UnixSocket("s"))
    process.wait_ready(UnixSocket(directory / "s"))


def test_a_socket_that_was_handed_down_is_its_own(service: Service, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        path = str(tmp_path / "handed")
        unix.bind(path)
        unix.listen()
        fds = [tcp.fileno(), unix.fileno()]
        process = service.start_with_options(
            RunOptions("sh", ["-c", "sleep 600 & wait"], pass_fds=fds)
        )
        process.wait_ready(TcpPort(tcp.getsockname()[1]), UnixSocket(path))


@pytest.mark.parametrize(
    ("writes", "pattern", "found"),
    [
        ("printf 'port 80'; sleep 0.2; echo 80", r"port (\d+)", "port 8080"),
        (r"printf 'f\303'; sleep 0.2; printf '\274r alle\n'", "für", "für"),
        ("printf 'all '; sleep 0.2; echo no >&2; sleep 0.2; echo well", "all well", "all well"),
        (r"printf 'ready\r\n'", "^ready$", "ready"),
    ],
)
def test_a_pattern_reads_whole_lines(
    service: Service, writes: str, pattern: str, found: str
) -> None:
    log = LogPattern(pattern)
    service.start("bash", "-c", f"{writes}; sleep 600").wait_ready(log)
    assert log.match is not None
    assert log.match[0] == found


def test_a_prompt_is_looked_at_by_who_asks_for_it(service: Service) -> None:
    process = service.start("sh", "-c", "printf 'login: '; sleep 600")
    with pytest.raises(NotReadyError, match=r"'login: ' has not ended yet \(unended=True"):
        process.wait_ready(LogPattern("login"), timeout=2)
    process.wait_ready(LogPattern("login", unended=True))


def test_a_pattern_starts_at_its_offset(service: Service) -> None:
    process = service.start("sh", "-c", "echo ready; read line; echo ready again; sleep 600")
    process.wait_ready(LogPattern("ready"))
    before = process.read().end
    process.send_input("\n")
    log = LogPattern("ready.*", after=before)
    process.wait_ready(log)
    assert log.match is not None
    assert log.match[0] == "ready again"


def test_a_pattern_begins_anew_with_each_process_and_restart(
    service: Service, tmp_path: Path
) -> None:
    log = LogPattern("up")
    service.start("sh", "-c", "echo long before up; echo up; sleep 600").wait_ready(log)
    other = service.start("sh", "-c", "echo no; sleep 600")
    with pytest.raises(NotReadyError, match="no line matches in 3 bytes"):
        other.wait_ready(log, timeout=2)
    command = "[ -e failed ] || { echo up; touch failed; exit 1; }; touch again; exec sleep 600"
    options = RunOptions(
        "sh", ["-c", command], dir=tmp_path, restart=RestartPolicy("on_failure", backoff=0.3)
    )
    process = service.start_with_options(options)
    process.wait_ready(FileExists("again"))
    assert process.info().restarts == 1
    with pytest.raises(NotReadyError, match="no line matches"):
        process.wait_ready(log, timeout=1)


@pytest.mark.parametrize("kept", [{"disable_capture": True}, {"log": "/dev/null"}])
def test_a_pattern_needs_output_that_is_kept(service: Service, kept: dict[str, Any]) -> None:
    process = service.start_with_options(RunOptions("sleep", ["600"], **kept))
    with pytest.raises(InvalidError, match="no output"):
        process.wait_ready(LogPattern("ready"))


def test_a_probe_has_its_own_time_and_the_programs_surroundings(
    service: Service, tmp_path: Path
) -> None:
    process = service.start_with_options(
        RunOptions("sleep", ["600"], dir=tmp_path, env={"ASKED": "yes"})
    )
    ask = 'sleep 1.2; test "$ASKED" = yes && touch here; sleep 600 & exit 0'
    process.wait_ready(CommandSucceeds(["sh", "-c", ask]), FileExists("here"))
    assert (tmp_path / "here").exists()
    assert [left.pid for left in service.leftovers()] == [process.pid]
    with pytest.raises(NotReadyError, match=r"it still ran after 0\.2 s"):
        process.wait_ready(CommandSucceeds(["sleep", "600"], timeout=0.2), timeout=0.5)


def test_an_answer_that_comes_in_drips_is_not_waited_for(service: Service) -> None:
    def drip() -> None:
        with contextlib.suppress(OSError):  # the probe hangs up
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(ConnectionError):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drips: ")
                    while not over.wait(0.02):
                        connection.sendall(b"x")

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        probe = HttpStatus(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.2)
        with pytest.raises(NotReadyError, match="timed out"):
            service.start("sleep", "600").wait_ready(probe, timeout=0.5)
        over.set()
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_probe_is_not_waited_for_once_the_program_has_ended(service: Service) -> None:
    process = service.start("sh", "-c", "sleep 0.3; exit 3")
    with pytest.raises(NotReadyError, match="exit code is 3"):
        process.wait_ready(CommandSucceeds(["sleep", "600"], timeout=600), timeout=600)


async def answer() -> bool:
    return True


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogPattern("("),
        lambda: LogPattern("one\ntwo"),
        lambda: TcpPort(0),
        lambda: TcpPort(80, timeout=0),
        lambda: TcpPort(80, "localhost\0.example"),
        lambda: UnixSocket("socket\0"),
        lambda: UnixSocket("\udc00\ud800"),
        lambda: FileExists("file\0"),
        lambda: HttpStatus("http://localhost/a b"),
        lambda: HttpStatus("http://local\0host/"),
        lambda: HttpStatus("http://localhost/\ud800"),
        lambda: HttpStatus("http://[::1"),
        lambda: CommandSucceeds([]),
        lambda: Check(answer),
    ],
)
def test_what_is_no_probe_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidError):
        make()


def test_a_check_around_an_async_function_is_never_true(service: Service) -> None:
    with pytest.raises(InvalidError, match="a coroutine, which is not awaited"):
        service.start("sleep", "60").wait_ready(Check(lambda: answer()))  # noqa: PLW0108


def test_a_program_that_has_ended_hides_no_sockets() -> None:
    """For an ordinary user, its descriptors may not be read any more: they belong to root."""
    tester = os.fork()
    if tester == 0:
        code = 2
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            ended = os.fork()
            if ended == 0:
                os._exit(0)
            os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
            code = int(sockets_of([ended]) != (set(), set()))
        finally:
            os._exit(code)
    _, status = os.waitpid(tester, 0)
    assert os.waitstatus_to_exitcode(status) == 0
