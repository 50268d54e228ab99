"""Waiting until a program is ready, and being told why it is not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

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
    RunOptions,
    Service,
    TcpPort,
    UnixSocket,
)
from process_programs import PYTHON

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.process import Process

SERVER = """
import http.server, pathlib, socket, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "busy" in self.path else 204)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
unix = socket.socket(socket.AF_UNIX)
unix.bind("socket")
unix.listen()
pathlib.Path("file").touch()
print("listening on", end=" ", flush=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def server(service: Service, tmp_path: Path) -> Process:
    return service.start_with_options(RunOptions(PYTHON, ["-c", SERVER], dir=tmp_path))


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
    ("probe", "told"),
    [
        (LogPattern("never said"), "no line matches in"),
        (TcpPort(1), "Connection refused"),
        (UnixSocket("/no/such"), "No such file"),
        (HttpStatus("http://127.0.0.1:1/"), "Connection refused"),
        (FileExists("/no/such"), "it is not there"),
        (CommandSucceeds(["sh", "-c", "echo not yet >&2; exit 4"]), "exit code 4: not yet"),
        (CommandSucceeds(["no-such-program"]), "no-such-program"),
        (CommandSucceeds(["sleep", "60"]), "it still ran"),
        (Check(lambda: 0), "it returned 0"),
        (Check(raise_oops), "ValueError: oops"),
    ],
)
def test_a_failure_tells_all_that_is_known(server: Process, probe: Probe, told: str) -> None:
    log = LogPattern(r"listening on (\d+)\n")
    server.wait_ready(log)
    assert log.match is not None
    with pytest.raises(NotReadyError) as caught:
        server.wait_ready(probe, timeout=0.7)
    text = str(caught.value)
    assert repr(probe) in text
    assert told in text
    assert f"it still runs, as process {server.pid}" in text
    assert f"it listens on 127.0.0.1:{log.match[1]}" in text
    assert "listening on" in text
    assert isinstance(caught.value, TimeoutExpiredError)


def test_the_wrong_status_is_told(server: Process) -> None:
    log = LogPattern(r"listening on (\d+)\n")
    server.wait_ready(log)
    assert log.match is not None
    with pytest.raises(NotReadyError, match="the answer is 503"):
        server.wait_ready(HttpStatus(f"http://127.0.0.1:{log.match[1]}/busy"), timeout=2)


def test_a_program_that_ends_is_not_waited_for(service: Service) -> None:
    process = service.start("sh", "-c", "echo cannot open config >&2; exit 3")
    before = time.monotonic()
    with pytest.raises(NotReadyError, match=r"(?s)ended.*exit code is 3.*cannot open config"):
        process.wait_ready(TcpPort(1), timeout=600)
    assert time.monotonic() - before < 300


def test_what_a_program_said_last_counts(service: Service) -> None:
    process = service.start("echo", "ready")
    process.wait(30)
    process.wait_ready(LogPattern("ready"))


def test_a_daemon_becomes_ready_after_its_starter_has_ended(service: Service) -> None:
    process = service.start("sh", "-c", "(sleep 0.2; echo ready; sleep 60) &")
    process.wait_ready(LogPattern("ready"))
    assert process.exit_code == 0


def test_only_http_urls() -> None:
    with pytest.raises(InvalidError, match="ftp"):
        HttpStatus("ftp://host/")
