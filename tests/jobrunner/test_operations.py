"""A running poller from outside: its health, its report, webhooks, and what a person decides."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import UnavailableError
from core_infra.jobrunner import Phase, RecordedSource, SystemClock, Token
from core_infra.jobrunner._bounded_http import BoundedHandler, BoundedServer
from core_infra.jobrunner._journal.amendments import amend
from core_infra.jobrunner._operations import OperationsServer
from jobs.actors import Actor, Gate, Teller
from jobs.samples import signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner import FakeClock, PipelineSignal
    from jobs.polling import Make

SECRET = "hook-s3cret"  # noqa: S105 - nobody's


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OperationsServer]:
    monkeypatch.setenv("HOOK", SECRET)
    with OperationsServer("127.0.0.1", 0, secret=Token(env="HOOK")) as server:
        yield server


def ask(server: OperationsServer, path: str, body: bytes | None = None, **headers: str) -> Any:
    request = urllib.request.Request(server.url + path, data=body, headers=headers)  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - ours
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def signed(body: bytes, key: str = SECRET) -> str:
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


class Counted(RecordedSource):
    """Counts its polls, and how often it was asked to look afresh."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.polled = threading.Semaphore(0)
        self.polls = self.fresh = 0

    def poll(self) -> list[PipelineSignal]:
        self.polls += 1
        self.polled.release()
        return []

    def refresh(self) -> None:
        self.fresh += 1


def test_a_webhook_only_polls_its_repository_now(make: Make, server: OperationsServer) -> None:
    wanted, other = Counted("github.com:Acme/widgets"), Counted("github.com:acme/gears")
    poller = make(Actor(), sources=[wanted, other], clock=SystemClock(), poll_interval=3600.0)
    server.poller = poller
    thread = threading.Thread(target=poller.run)
    thread.start()
    assert wanted.polled.acquire(timeout=30)
    assert other.polled.acquire(timeout=30)
    body = json.dumps({"repository": {"full_name": "acme/Widgets"}, "evil": "ignored"}).encode()
    for header in ("X-Hub-Signature-256", "X-Forgejo-Signature"):
        value = f"sha256={signed(body)}" if "Hub" in header else signed(body)
        assert ask(server, "/hook", body, **{header: value}) == (202, "polled now: 1 source\n")
        assert wanted.polled.acquire(timeout=30)
    poller.stop()
    thread.join(30)
    assert (wanted.fresh, other.polls) == (2, 1)


def test_webhooks_without_end_do_not_keep_other_repositories_from_being_polled(make: Make) -> None:
    busy, other = Counted("github.com:acme/widgets"), Counted("github.com:acme/gears")
    poller = make(Actor(), sources=[busy, other], clock=SystemClock(), poll_interval=0.2)
    busy.refresh = lambda: None  # type: ignore[method-assign]
    # Each poll of the one asks for the next.
    busy.poll = lambda: poller.poll_now("acme/widgets") and []  # type: ignore[assignment, method-assign, return-value]
    thread = threading.Thread(target=poller.run)
    thread.start()
    for _ in range(3):
        assert other.polled.acquire(timeout=30)
    poller.stop()
    thread.join(30)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {}, 403),
        (b"{}", {"X-Hub-Signature-256": "sha256=00"}, 403),
        (b"{}", {"X-Hub-Signature-256": "sha256=é"}, 403),
        (b"{}", {"X-Hub-Signature-256": f"sha256={signed(b'{}', 'other')}"}, 403),
        (b"{}", {"X-Hub-Signature-256": f"sha256={signed(b'{}')}"}, 202),
        (b"[" * 9999, {"X-Gitea-Signature": signed(b"[" * 9999)}, 202),
        (b"x" * ((1 << 20) + 1), {}, 413),
    ],
)
def test_a_bad_webhook_does_nothing(
    server: OperationsServer, body: bytes, headers: dict[str, str], status: int
) -> None:
    try:
        assert ask(server, "/hook", body, **headers)[0] == status
    except urllib.error.URLError:
        assert status == 413  # refused before it was sent


def test_without_a_secret_there_are_no_webhooks() -> None:
    with OperationsServer("127.0.0.1", 0) as server:
        assert ask(server, "/hook", b"{}")[0] == 404
        assert ask(server, "/metrics")[0] == 404
        with pytest.raises(UnavailableError, match="cannot listen at"):
            OperationsServer("127.0.0.1", int(server.url.rpartition(":")[2]))


def test_health_and_readiness(make: Make, server: OperationsServer) -> None:
    assert ask(server, "/ready")[0] == 503
    gate = Gate()
    hanging = RecordedSource(name="hanging")
    hanging.poll = gate  # type: ignore[method-assign, assignment]  # it hangs
    poller = make(Actor(), sources=[hanging], poll_timeout=0.001)
    server.poller = poller
    poller.run_once()
    assert ask(server, "/ready") == (200, "ready\n")
    status = 200
    while status == 200:  # until ten timeouts have passed
        status, text = ask(server, "/health")
    assert (status, json.loads(text)["problems"]) == (503, ["source hanging hangs"])
    gate.opened.set()
    while status == 503:
        poller.run_once()
        status, text = ask(server, "/health")
    assert json.loads(text)["problems"] == []


def test_the_report_is_live(make: Make, server: OperationsServer) -> None:
    said = "<script>alert(1)</script> \ud800"  # half a character, as JSON may have it
    poller = make(Actor(do=lambda *_: said), clock=SystemClock())
    server.poller = poller
    assert "acme/widgets" not in ask(server, "/")[1]
    poller.run_once()
    page = ask(server, "/")[1]
    assert "acme/widgets" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; ?" in page


def test_what_was_given_up_is_tried_again_when_a_person_wants_it(
    make: Make, clock: FakeClock
) -> None:
    handler = Teller(do=lambda *_: "no rights")
    poller = make(handler, attempts=2)
    for _ in range(5):
        poller.run_once()
        clock.advance(7200)
    assert len(handler.done) == 2
    handler.do = lambda *_: None
    (amended,) = amend(poller.config.journal, "acme/widgets#5", Phase.RETRY)
    assert amended.outcome == "failed"
    (result,) = poller.run_once().results
    assert result.success
    assert handler.asked  # it looks first whether it was done after all
    assert amend(poller.config.journal, "acme/widgets#5", Phase.RETRY) == []


@pytest.mark.parametrize(("phase", "times"), [(Phase.RESOLVED, 1), (Phase.FORGOTTEN, 2)])
def test_what_is_unknown_is_resolved_or_forgotten(make: Make, phase: Phase, times: int) -> None:
    handler = Actor(do=lambda *_: "no")
    poller = make(handler)
    poller.run_once()
    assert len(amend(poller.config.journal, "acme/widgets#5", phase, action="act")) == 1
    poller.run_once()
    assert len(handler.done) == times
    assert amend(poller.config.journal, "acme/widgets#5", phase, action="other") == []


def test_handlers_see_only_their_sources_and_may_form_a_chain(make: Make) -> None:
    first, second, third = Actor("first"), Actor("second"), Actor("third")
    first.chain = True  # type: ignore[attr-defined]  # optional
    second.sources = ["b"]  # type: ignore[attr-defined]  # optional
    sources = [RecordedSource([signal(repo_name=name)], name=name) for name in ("a", "b")]
    make(first, second, third, sources=sources).run_once()
    seen = {one.name: {job.signal.repo_name for job in one.done} for one in (first, second, third)}
    assert seen == {"first": {"a", "b"}, "second": {"b"}, "third": {"a"}}


def test_a_handler_that_gave_up_leaves_the_signal_to_the_next(make: Make, clock: FakeClock) -> None:
    first, second = Teller("first", do=lambda *_: "no"), Actor("second")
    poller = make(first, second, attempts=2)
    for _ in range(4):
        poller.run_once()
        clock.advance(7200)
    assert (len(first.done), len(second.done)) == (2, 1)


def get(server: OperationsServer, path: str, host: str) -> int:
    """The status of a GET with this Host."""
    with http_connection(server) as connection:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status


def http_connection(
    server: OperationsServer,
) -> contextlib.closing[http.client.HTTPConnection]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=30))


def test_a_page_of_another_name_cannot_read_the_report(
    make: Make, server: OperationsServer
) -> None:
    server.poller = make(Actor())
    port = server.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"LOCALHOST:{port}", "localhost", f"[::1]:{port}"):
        assert get(server, "/", host) == 200
    for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil", "[::1"):
        assert get(server, "/", host) == 421
        assert get(server, "/metrics", host) == 421
        assert get(server, "/health", host) in {200, 503}


@pytest.fixture
def impatient() -> Iterator[BoundedServer]:
    """Answers what arrives within half a second, to two clients at a time."""

    class Handler(BoundedHandler):
        def do_POST(self) -> None:  # noqa: N802 - of http.server
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

    with BoundedServer(("127.0.0.1", 0), Handler, connections=2, request_time=0.5) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("start", [b"", b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n"])
def test_a_request_that_trickles_in_is_cut_off(impatient: BoundedServer, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient.server_port), 30) as client:
        client.sendall(start)
        client.settimeout(0.02)
        while True:  # for ever, if the time began again with each byte
            with contextlib.suppress(TimeoutError):
                try:
                    client.sendall(b"x")
                    answer = client.recv(100)
                except ConnectionError:
                    answer = b""
                break
    assert answer == b""


def test_more_connections_than_there_are_places_are_closed(impatient: BoundedServer) -> None:
    address = ("127.0.0.1", impatient.server_port)
    with contextlib.ExitStack() as clients:
        silent = [clients.enter_context(socket.create_connection(address, 30)) for _ in range(2)]
        one_more = clients.enter_context(socket.create_connection(address, 30))
        assert one_more.recv(1) == b""
        for client in silent:
            assert client.recv(1) == b"", "their time is over"
    post = b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"
    with socket.create_connection(address, 30) as client:
        client.sendall(post)
        assert client.recv(100).startswith(b"HTTP/1.0 200")
