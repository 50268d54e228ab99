"""States of a forge that are odd but possible: each costs one item at most, and misleads nobody."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.jobrunner import (
    EnableAutoMerge,
    EpicSource,
    FakeClock,
    Forgejo,
    GitHub,
    Journal,
    Poller,
    PollerConfig,
    Repo,
    SendFixCommand,
    TickParent,
)
from jobs.api_server import NOW, Reply
from jobs.forgejo_server import ForgejoServer
from jobs.github_server import GitHubServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core_infra.jobrunner import PipelineSignal
    from jobs.api_server import Request
    from jobs.forge_server import ForgeServer

WIDGETS = Repo("acme", "widgets")


@pytest.fixture(params=[GitHubServer, ForgejoServer])
def server(request: pytest.FixtureRequest) -> Iterator[ForgeServer]:
    with request.param() as server:
        server.add_issue(1, body="- [ ] #42\n", labels=["epic"])
        server.add_issue(42, assignees=["ann"])
        yield server


@pytest.fixture
def forge(server: ForgeServer) -> Iterator[GitHub | Forgejo]:
    options: dict[str, Any] = {"pause": 0, "retry_pause": 0, "timeout": 10}
    forge: GitHub | Forgejo = (
        GitHub(None, server.url, **options)
        if isinstance(server, GitHubServer)
        else Forgejo(server.url, None, **options)
    )
    yield forge
    forge.close()


@pytest.fixture
def source(forge: GitHub | Forgejo) -> EpicSource:
    return EpicSource(forge, *WIDGETS, clock=FakeClock(NOW))


only_github = pytest.mark.parametrize("server", [GitHubServer], indirect=True)
only_forgejo = pytest.mark.parametrize("server", [ForgejoServer], indirect=True)


def only(source: EpicSource) -> PipelineSignal:
    (found,) = source.poll()
    return found


def changed(server: ForgeServer, path: str, change: Any) -> None:
    """Have the server give other answers to a path: what *change* makes of them."""

    def answer(request: Request) -> Reply | None:
        if request.path.removeprefix(server.prefix) != path:
            return None
        server.override = lambda _: None
        reply = server.reply(request)
        server.override = answer
        return Reply(reply.status, change(json.loads(json.dumps(reply.content))))

    server.override = answer


@only_github
def test_a_repository_that_was_renamed_has_its_pull_requests(
    server: GitHubServer, source: EpicSource
) -> None:
    server.name = "acme/gadgets"
    server.add_pull(50, body="closes #42")
    assert only(source).pr_number == 50


def test_the_pull_request_of_a_child_is_found_behind_many_closed_ones(
    server: ForgeServer, source: EpicSource
) -> None:
    for number in range(50, 80):
        server.add_pull(number, body="closes #42", open=False)
    server.add_pull(90, body="closes #42")
    assert only(source).pr_number == 90


@only_github
def test_a_child_whose_pull_request_may_not_be_seen_is_left_alone(
    server: GitHubServer, source: EpicSource
) -> None:
    server.add_pull(50, body="closes #42")

    def hide(answer: Any) -> Any:
        for item in answer["data"]["repository"].values():
            item["closedByPullRequestsReferences"]["nodes"] = [None]
        error = {"type": "FORBIDDEN", "message": "no", "path": ["repository", "n42"]}
        return {**answer, "errors": [error]}

    changed(server, "/graphql", hide)
    assert list(source.poll()) == []


@only_github
def test_errors_that_are_null_are_none(server: GitHubServer, source: EpicSource) -> None:
    changed(server, "/graphql", lambda answer: {**answer, "errors": None})
    assert only(source).needs_coding


def test_one_item_that_is_not_as_documented_costs_that_item(
    server: ForgeServer, source: EpicSource
) -> None:
    server.add_issue(43, assignees=["ann"])
    for number in range(2, 5):
        server.add_issue(number, body="- [ ] #43\n", labels=["epic"])
    bad = [{"number": None}, None, 7, {"number": 8, "state": "open", "labels": 5}]
    changed(server, "/repos/acme/widgets/issues", lambda found: [*bad, *found])
    assert {one.epic_number for one in source.poll()} == {1, 2, 3, 4}


@only_github
def test_a_child_that_was_transferred_meanwhile_is_not_closed(
    server: GitHubServer, source: EpicSource, forge: GitHub, journal: Journal
) -> None:
    server.add_pull(50, body="closes #42", merged=True, open=False)
    # The request is redirected to the issue of the other repository.
    changed(server, "/repos/acme/widgets/issues/42", lambda issue: {**issue, "number": 7})
    with Poller(PollerConfig([source], [TickParent(forge)], journal)) as poller:
        (result,) = poller.run_once().results
    assert "transferred" in result.error
    assert [line for line in server.lines("PATCH") if line.endswith("/42")] == []


@only_forgejo
def test_deleted_accounts_do_not_speak_for_each_other(
    server: ForgejoServer, forge: Forgejo, source: EpicSource, journal: Journal
) -> None:
    ghost = {"id": -1, "login": "Ghost"}
    given = {"user": ghost, "dismissed": False, "stale": False}
    server.add_pull(
        50,
        body="closes #42",
        reviews=[
            {"id": 1, "state": "REQUEST_CHANGES", "submitted_at": "2026-03-04T10:00:00Z", **given},
            {"id": 2, "state": "APPROVED", "submitted_at": "2026-03-04T11:00:00Z", **given},
        ],
    )
    signal = only(source)
    assert (signal.changes_requested, signal.approvals) == (1, 1)
    with Poller(PollerConfig([source], [EnableAutoMerge(forge)], journal)) as poller:
        poller.run_once()
    assert server.merged == []


def test_an_archived_repository_may_not_be_written(
    server: ForgeServer, forge: GitHub | Forgejo
) -> None:
    whole = {"default_branch": "main", "archived": True, "permissions": {"push": True}}
    server.override = lambda request: (
        Reply(200, whole) if request.path.endswith("/acme/widgets") else Reply(404, {})
    )
    assert not forge.rights(WIDGETS).may_write


@only_forgejo
def test_no_conflict_is_seen_too_early_because_our_clock_is_wrong(server: ForgejoServer) -> None:
    server.clock = lambda: NOW
    server.add_pull(50, body="closes #42", checking=True)
    clock = FakeClock(NOW + timedelta(hours=3))
    with contextlib.closing(Forgejo(server.url, None, clock=clock)) as forge:
        assert only(EpicSource(forge, *WIDGETS, clock=clock)).mergeable == "UNKNOWN"


@only_forgejo
def test_no_conflict_is_seen_while_all_are_looked_at_because_their_base_has_moved(
    server: ForgejoServer, source: EpicSource
) -> None:
    """Forgejo calls none of them mergeable meanwhile, however long ago it was changed."""
    server.clock = lambda: NOW
    server.add_pull(50, body="closes #42", mergeable=False)
    assert only(source).mergeable == "CONFLICTING"
    source.refresh()
    server.base, server.based = "b" * 40, NOW - timedelta(seconds=5)
    server.add_pull(50, body="closes #42", sha="c" * 40, mergeable=False)
    assert only(source).mergeable == "UNKNOWN"


@only_github
def test_a_box_that_a_person_adds_at_the_very_moment_is_kept(
    server: GitHubServer, source: EpicSource, forge: GitHub, journal: Journal
) -> None:
    server.issues[1]["body"] = "- [ ] #42\r\n"
    server.add_pull(50, body="closes #42", merged=True, open=False)

    def person(request: Request) -> None:
        if request.line == "PATCH /repos/acme/widgets/issues/1":
            server.override = lambda _: None
            server.issues[1]["body"] += "- [ ] #44\r\n"

    server.override = person
    with Poller(PollerConfig([source], [TickParent(forge)], journal)) as poller:
        assert [one.success for one in poller.run_once().results] == [True]
    assert server.issues[1]["body"] == "- [x] #42\r\n- [ ] #44\r\n"
    assert server.violations == []


@only_github
def test_a_box_is_ticked_if_the_history_cannot_be_read(
    server: GitHubServer, source: EpicSource, forge: GitHub, journal: Journal
) -> None:
    server.add_pull(50, body="closes #42", merged=True, open=False)
    server.override = lambda request: (
        Reply(200, {"data": None, "errors": [{"message": "no", "type": "FORBIDDEN"}]})
        if request.path == "/graphql" and "userContentEdits" in request.content["query"]
        else None
    )
    with Poller(PollerConfig([source], [TickParent(forge)], journal)) as poller:
        assert [one.success for one in poller.run_once().results] == [True]
    assert server.issues[1]["body"] == "- [x] #42\n"
    assert not server.issues[42]["open"]


def test_bots_with_journals_of_their_own_post_a_comment_once(
    server: ForgeServer, source: EpicSource, forge: GitHub | Forgejo, tmp_path: Path
) -> None:
    server.add_pull(50, body="closes #42", mergeable=False)
    for name in ("one", "other"):
        with (
            Journal(tmp_path / name) as journal,
            Poller(PollerConfig([source], [SendFixCommand(forge)], journal)) as poller,
        ):
            assert [one.success for one in poller.run_once().results] == [True]
    assert len(server.comments[50]) == 1
