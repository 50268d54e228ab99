"""A forge that is slow, broken or hostile: the cycle goes on, and the token stays at home."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.jobrunner import (
    EpicSource,
    FakeClock,
    ForgeAnswerError,
    Forgejo,
    ForgeNotFoundError,
    ForgeRefusedError,
    ForgeUnavailableError,
    GitHub,
    Poller,
    PollerConfig,
    RateLimitedError,
    RecordedSource,
    Repo,
    Token,
)
from jobs.actors import Actor
from jobs.api_server import Reply, Request
from jobs.github_server import GitHubServer
from jobs.samples import signal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core_infra.jobrunner import Journal

SECRET = "ghp_0123456789"  # noqa: S105 - nobody's
REPO = Repo("acme", "widgets")


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.add_issue(1, body="- [ ] #2", labels=["epic"])
        server.add_issue(2, assignees=["ann"])
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def github(
    server: GitHubServer, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> Iterator[GitHub]:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    options: dict[str, Any] = {"pause": 0, "retry_pause": 0, "timeout": 5, "clock": clock}
    forge = GitHub(Token(file=file), server.url, **options)
    yield forge
    forge.close()
    assert SECRET not in caplog.text


def always(reply: Reply) -> Any:
    return lambda _: reply


def test_the_token_is_sent_to_the_api(server: GitHubServer, github: GitHub) -> None:
    github.epics(REPO, "epic")
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert server.requests[0].headers["x-github-api-version"] == "2022-11-28"


@pytest.mark.parametrize("how", ["redirect", "next", "userinfo"])
def test_the_token_is_sent_nowhere_else(server: GitHubServer, github: GitHub, how: str) -> None:
    with GitHubServer() as other:
        if how == "redirect":
            server.override = always(Reply(302, {}, {"Location": f"{other.url}/steal"}))
        elif how == "next":
            server.override = always(Reply(200, [], {"Link": f'<{other.url}/steal>; rel="next"'}))
        else:
            there = server.url.replace("://", "://me@")
            server.override = always(Reply(302, {}, {"Location": f"{there}/steal"}))
        with pytest.raises(ForgeUnavailableError, match="must not receive the token") as caught:
            github.epics(REPO, "epic")
        assert other.requests == []
        there = server.url.replace("://", "://***@") if how == "userinfo" else other.url
        assert f"{server.url} redirects to {there}:" in str(caught.value)
    assert len(server.requests) == 1


def test_a_redirect_at_home_is_followed(server: GitHubServer, github: GitHub) -> None:
    server.override = lambda request: (
        Reply(301, {}, {"Location": f"{server.url}/repos/acme/widgets/issues/1"})
        if request.path == "/repos/acme/renamed/issues/1"
        else None
    )
    assert github.epic(Repo("acme", "renamed"), 1)[0].body == "- [ ] #2"


def test_a_redirect_in_a_circle_ends(server: GitHubServer, github: GitHub) -> None:
    server.override = always(Reply(302, {}, {"Location": "/here"}))
    with pytest.raises(ForgeUnavailableError, match="in a circle"):
        github.epic(REPO, 1)


@pytest.mark.parametrize(
    ("reply", "error", "told"),
    [
        (Reply(500, {"message": "oh"}), ForgeUnavailableError, "oh"),
        (Reply(502, raw=b"<html>"), ForgeUnavailableError, "not JSON"),
        (Reply(404, {"message": "Not Found"}), ForgeNotFoundError, "Not Found"),
        (Reply(401, {"message": f"bad token {SECRET}"}), ForgeRefusedError, r"bad token \*\*\*"),
        (Reply(422, {"message": 5}), ForgeRefusedError, "it does not say why"),
        (Reply(200, raw=b'{"number": 1, "bo'), ForgeAnswerError, "Invalid JSON"),
        (Reply(200, raw=b"[" * 100_000), ForgeAnswerError, "Invalid JSON"),
        (Reply(200, {"number": "1", "state": "open"}), ForgeAnswerError, "number: Input should be"),
        (Reply(200, []), ForgeAnswerError, "is not as documented"),
        (Reply(200, None), ForgeAnswerError, "is not as documented"),
        (Reply(200, raw=b"\xff\xfe"), ForgeAnswerError, "is not as documented"),
        (Reply(200, raw=b"{", headers={"Content-Length": "9"}), ForgeUnavailableError, "no answer"),
        (
            Reply(200, raw=b"x" * 50, headers={"Content-Encoding": "gzip"}),
            ForgeUnavailableError,
            "no",
        ),
    ],
)
def test_a_bad_answer_is_one_clear_error(
    server: GitHubServer, github: GitHub, reply: Reply, error: type[CoreInfraError], told: str
) -> None:
    server.override = always(reply)
    with pytest.raises(error, match=told) as caught:
        github.epic(REPO, 1)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__context__)


def test_an_answer_that_is_too_large_is_not_read(server: GitHubServer, github: GitHub) -> None:
    server.override = always(Reply(200, raw=b"[" + b" " * (33 << 20)))
    with pytest.raises(ForgeAnswerError, match="is too large"):
        github.epic(REPO, 1)


def test_an_answer_that_drips_is_given_up(server: GitHubServer) -> None:
    enough = threading.Event()

    def drip(_: Request) -> None:
        enough.wait(30)

    server.override = drip
    forge = GitHub(None, server.url, timeout=0.2, retry_pause=0)
    with pytest.raises(ForgeUnavailableError, match="has no answer"):
        forge.epic(REPO, 1)
    enough.set()
    forge.close()


def test_what_passes_is_asked_once_more(server: GitHubServer, github: GitHub) -> None:
    left = [Reply(502), Reply(503)]
    server.override = lambda _: left.pop() if left else None
    assert github.epic(REPO, 1)[0].number == 1
    assert len(server.requests) == 3


def test_what_changes_something_is_never_sent_twice(server: GitHubServer, github: GitHub) -> None:
    server.override = always(Reply(502))
    with pytest.raises(ForgeUnavailableError):
        github.comment(REPO, 1, "hello")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (Reply(429, {}, {"Retry-After": "30"}), 30),
        (Reply(403, {"message": "You have exceeded a secondary rate limit."}), 60),
        (Reply(429, {}), 60),
        (Reply(429, {}, {"Retry-After": "7200"}), 7200),
        (Reply(403, {}, {"Retry-After": "86400"}), 86400),
        (Reply(429, {}, {"Retry-After": "99999999999"}), 86400),
        (Reply(429, {}, {"Retry-After": "inf"}), 86400),
        (Reply(429, {}, {"Retry-After": "nonsense"}), 60),
        (Reply(429, {}, {"Retry-After": "nan"}), 60),
        (Reply(503, {}, {"Retry-After": "60"}), 60),
        (Reply(500, {}, {"Retry-After": "120"}), 120),
        (Reply(403, {}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "x"}), 60),
    ],
)
def test_a_limit_is_kept(
    server: GitHubServer, github: GitHub, clock: FakeClock, reply: Reply, seconds: int
) -> None:
    server.override = always(reply)
    with pytest.raises(RateLimitedError) as caught:
        github.epic(REPO, 1)
    wait = (caught.value.retry_at - clock.now()).total_seconds()
    assert wait == pytest.approx(seconds, abs=2)
    server.override = lambda _: None
    with pytest.raises(RateLimitedError):
        github.comment(REPO, 1, "not before")
    assert len(server.requests) == 1
    clock.advance(seconds + 2)
    assert github.epic(REPO, 1)[0].number == 1


def test_a_limit_of_years_is_shortened_and_reported(
    server: GitHubServer, github: GitHub, caplog: pytest.LogCaptureFixture
) -> None:
    server.override = always(Reply(429, {}, {"Retry-After": "86000"}))
    with pytest.raises(RateLimitedError):
        github.epic(REPO, 1)
    assert "the next one is sent in a day" not in caplog.text
    other = GitHub(None, server.url)
    server.override = always(Reply(429, {}, {"Retry-After": "99999999"}))
    with pytest.raises(RateLimitedError):
        other.epic(REPO, 1)
    assert "the next one is sent in a day" in caplog.text
    other.close()


@pytest.mark.parametrize(
    "url",
    [
        *("http://u:secretpw@x", "https://secretpw@x/", "http://u:secretpw#@x", "u:secretpw@x"),
        *("git.example.org", "ftp://x", "", "http://", "http://x:port", "http://[x"),
    ],
)
@pytest.mark.parametrize("kind", [GitHub, Forgejo])
def test_an_address_that_cannot_be_used_is_refused(url: str, kind: type[GitHub | Forgejo]) -> None:
    with pytest.raises(InvalidError) as caught:
        kind(token=None, url=url)
    assert "secretpw" not in str(caught.value)
    assert ("token_env" in str(caught.value)) == ("@" in url)


def test_nothing_is_sent_once_the_limit_is_used_up(
    server: GitHubServer, github: GitHub, clock: FakeClock
) -> None:
    reset = str(int((clock.now() + timedelta(seconds=600)).timestamp()))
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    server.override = always(Reply(200, server.issue(1), headers))
    github.epic(REPO, 1)
    with pytest.raises(RateLimitedError):
        github.epic(REPO, 1)
    assert len(server.requests) == 1


def test_graphql_has_limits_and_errors_of_its_own(server: GitHubServer, github: GitHub) -> None:
    problem = {"type": "SOME", "message": "Something went wrong"}
    server.override = always(Reply(200, {"data": None, "errors": [problem]}))
    with pytest.raises(ForgeRefusedError, match="Something went wrong"):
        github.publish(REPO, 1)
    server.override = always(Reply(200, {"data": {"repository": {"pullRequest": {"id": 5}}}}))
    with pytest.raises(ForgeAnswerError, match="not a valid Merging"):
        github.publish(REPO, 1)
    problem["type"] = "RATE_LIMITED"
    server.override = always(Reply(200, {"data": None, "errors": [problem]}))
    with pytest.raises(RateLimitedError):
        github.publish(REPO, 1)


def test_names_lead_nowhere_else(server: GitHubServer, github: GitHub) -> None:
    server.override = always(Reply(404))
    for repo in (
        Repo("..", ".."),
        Repo("a/../../b", "?x=1#y"),
        Repo(".", "%2e%2e"),
        Repo("ü", "日"),
    ):
        with pytest.raises(ForgeNotFoundError):
            github.epic(repo, 1)
    paths = [request.path for request in server.requests]
    assert all(path.startswith("/repos/") and path.count("/") == 5 for path in paths), paths
    assert all(request.query == {} for request in server.requests)


def test_the_cycle_goes_on_beside_a_broken_forge(
    server: GitHubServer, github: GitHub, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    server.override = always(Reply(500, {"message": f"oh {SECRET}"}))
    actor = Actor()
    sources: list[Any] = [EpicSource(github, "acme", "widgets"), RecordedSource([signal()])]
    with Poller(PollerConfig(sources, [actor], journal)) as poller:
        report = poller.run_once()
    assert actor.commits == ["abc"]
    (failure,) = report.failures.values()
    assert failure.endswith("failed with status 500: oh ***")
    assert "failed with status 500: oh ***" in caplog.text


def test_a_token_is_in_no_pickle_and_no_repr(server: GitHubServer, tmp_path: Path) -> None:
    token = Token(file=tmp_path / "token")
    (tmp_path / "token").write_text(SECRET)
    github = GitHub(token, server.url, pause=0)
    github.epic(REPO, 1)
    pickled = pickle.dumps(github)
    github.close()
    assert SECRET.encode() not in pickled
    assert SECRET not in repr(token)
    copy = pickle.loads(pickled)  # noqa: S301 - our own
    assert copy.epic(REPO, 1)[0].number == 1
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    copy.close()


def test_the_error_for_a_missing_token_names_its_place(tmp_path: Path) -> None:
    for token, told in [
        (Token(file=tmp_path / "none"), "none: FileNotFoundError"),
        (Token(env="CORE_INFRA_NO_SUCH"), "CORE_INFRA_NO_SUCH is empty or not set"),
    ]:
        with pytest.raises(NotFoundError, match=told):
            token.read()


def test_changes_are_sent_one_by_one(server: GitHubServer) -> None:
    forge = GitHub(None, server.url, pause=0.05)
    start = time.monotonic()
    threads = [threading.Thread(target=forge.comment, args=(REPO, 1, "x")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert time.monotonic() - start >= 0.15
    forge.close()
