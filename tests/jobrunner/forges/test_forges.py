"""Sources and handlers on forges, over HTTP, held to the forges' published descriptions."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from core_infra.framework import Bus
from core_infra.jobrunner import (
    AgentCompletion,
    Completion,
    DismissReviews,
    EnableAutoMerge,
    EpicSource,
    FakeClock,
    Forgejo,
    GitHub,
    Metrics,
    PipelineSignal,
    Poller,
    PollerConfig,
    PublishDraft,
    RecordedSource,
    Repo,
    ResolveThreads,
    SendFixCommand,
    TickParent,
    Token,
)
from jobs.api_server import NOW, Reply
from jobs.forgejo_server import ForgejoServer
from jobs.github_server import GitHubServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.jobrunner import Journal
    from jobs.forge_server import ForgeServer

SECRET = "s3cret-token"  # noqa: S105 - nobody's
EPIC = "Plan\n\n- [ ] #42 one\n- [x] #43 two\r\n* [ ] #44 three\n```\n- [ ] #99 an example\n```\n"


@pytest.fixture(params=[GitHubServer, ForgejoServer])
def server(request: pytest.FixtureRequest) -> Iterator[ForgeServer]:
    with request.param() as server:
        server.add_issue(1, body=EPIC, labels=["epic"])
        server.add_issue(42, title="One", body="do it", assignees=["ann"])
        server.add_issue(44, title="Three")
        yield server
        assert server.violations == []


@pytest.fixture
def forge(server: ForgeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub | Forgejo]:
    monkeypatch.setenv("FORGE_TOKEN", SECRET)
    token = Token(env="FORGE_TOKEN")
    options: dict[str, Any] = {"pause": 0, "retry_pause": 0, "timeout": 10}
    forge: GitHub | Forgejo
    if isinstance(server, GitHubServer):
        forge = GitHub(token, server.url, **options)
    else:
        forge = Forgejo(server.url, token, **options)
    yield forge
    forge.close()


@pytest.fixture
def source(forge: GitHub | Forgejo) -> EpicSource:
    return EpicSource(forge, "acme", "widgets")


@pytest.fixture
def poller(source: EpicSource, forge: GitHub | Forgejo, journal: Journal) -> Iterator[Poller]:
    settle = ResolveThreads(forge) if isinstance(forge, GitHub) else DismissReviews(forge)
    handlers = [
        *(EnableAutoMerge(forge), PublishDraft(forge), settle),
        *(SendFixCommand(forge), TickParent(forge), Completion(forge)),
    ]
    with Poller(PollerConfig([source], handlers, journal, clock=FakeClock(NOW))) as poller:
        yield poller


def by_child(source: EpicSource) -> dict[int, PipelineSignal]:
    return {signal.child_number: signal for signal in source.poll()}


def acted(poller: Poller) -> list[tuple[str, str]]:
    return [(result.action, result.error) for result in poller.run_once().results]


def test_a_child_without_a_pull_request_needs_coding_if_it_is_assigned(
    source: EpicSource, forge: GitHub | Forgejo
) -> None:
    signals = by_child(source)
    assert set(signals) == {42, 44}
    one = signals[42]
    assert (one.needs_coding, one.assignee, one.issue_title, one.issue_body) == (
        *(True, "ann", "One", "do it"),
    )
    assert (one.epic_number, one.pr_number, one.pr_state) == (1, 0, "")
    assert (one.repo_full_name, one.forge) == ("acme/widgets", forge.host)
    assert not signals[44].needs_coding


def test_an_open_pull_request_that_closes_a_child_is_its_own(
    server: ForgeServer, source: EpicSource
) -> None:
    text = "closes #42, see #44 and closes acme/other#44; `closes #44`\n\n> closes #44"
    server.add_pull(50, body=text, threads=[True, False, False])
    server.add_pull(51, body="Fixes #42", checks="FAILURE", mergeable=False, reviewed=NOW)
    server.issues[50]["open"] = False
    one = by_child(source)[42]
    assert (one.pr_number, one.pr_state, one.needs_coding) == (51, "OPEN", False)
    assert (one.mergeable, one.check_status) == ("CONFLICTING", "FAILURE")
    assert (one.last_commit_sha, one.last_commit_at) == (f"{51:040x}", NOW)
    server.issues[50]["open"] = True
    one = by_child(source)[42]
    assert (one.pr_number, one.mergeable, one.check_status) == (50, "MERGEABLE", "SUCCESS")
    assert (one.threads_total, one.threads_resolved) == (3, 1)
    assert by_child(source)[44].pr_number == 0


def test_no_check_at_all_is_one_that_is_still_to_come(
    server: ForgeServer, source: EpicSource
) -> None:
    server.add_pull(50, body="closes #42", checks=None)
    assert by_child(source)[42].check_status == "PENDING"


def test_a_merged_pull_request_ticks_the_box_and_closes_the_child(
    server: ForgeServer, poller: Poller
) -> None:
    server.add_pull(50, body="closes #42", open=False, merged=True)
    assert acted(poller) == [("tick_parent", "")]
    assert server.issues[1]["body"] == EPIC.replace("- [ ] #42", "- [x] #42")
    assert not server.issues[42]["open"]
    assert acted(poller) == []


def test_two_boxes_of_one_epic_are_both_ticked(server: ForgeServer, poller: Poller) -> None:
    server.add_pull(50, body="closes #42 closes #44", open=False, merged=True)
    assert acted(poller) == [("tick_parent", "")] * 2
    assert server.issues[1]["body"] == EPIC.replace("[ ] #4", "[x] #4")
    assert acted(poller) == [("completion", "")]
    assert not server.issues[1]["open"]
    assert server.comments[1][-2][1].startswith("All children are done.")


def test_what_is_in_order_is_merged_and_its_head_is_checked(
    server: ForgeServer, poller: Poller
) -> None:
    server.add_pull(50, body="closes #42")
    assert acted(poller) == [("enable_auto_merge", "")]
    assert server.merged == [(50, f"{50:040x}")]


def test_what_was_pushed_to_meanwhile_is_not_merged(server: ForgeServer, poller: Poller) -> None:
    server.add_pull(50, body="closes #42")

    def push(request: Any) -> None:
        if request.path.endswith("/merge"):
            server.issues[50]["pull"]["sha"] = "f" * 40

    server.override = push
    assert acted(poller) == []  # it is withdrawn
    assert server.merged == []


def test_a_draft_with_green_checks_is_published(server: ForgeServer, poller: Poller) -> None:
    server.add_pull(50, title="WIP: one", body="closes #42", draft=True)
    assert acted(poller) == [("publish_draft", "")]
    if isinstance(server, GitHubServer):
        assert not server.issues[50]["pull"]["draft"]
    else:
        assert server.issues[50]["title"] == "one"


def test_conversations_that_a_commit_has_answered_are_settled(
    server: ForgeServer, poller: Poller
) -> None:
    threads = [False, *[True] * 101, False]  # on more than one page
    server.add_pull(50, body="closes #42", threads=threads, reviewed=NOW - timedelta(hours=1))
    ((action, error),) = acted(poller)
    assert action in {"resolve_threads", "dismiss_reviews"}
    assert not error
    assert all(server.issues[50]["pull"]["threads"])


def test_a_fix_is_asked_for_once_for_each_commit(server: ForgeServer, poller: Poller) -> None:
    server.add_pull(50, body="closes #42", mergeable=False)
    assert acted(poller) == [("send_fix_command", "")]
    assert acted(poller) == []
    server.issues[50]["pull"]["sha"] = "e" * 40
    assert acted(poller) == [("send_fix_command", "")]
    texts = [text for _, text in server.comments[50]]
    assert len(texts) == 2
    assert all(text.startswith("Can you fix the merge conflict?") for text in texts)


def test_a_comment_that_was_posted_before_a_crash_is_not_posted_again(
    server: ForgeServer, poller: Poller
) -> None:
    """The answer to the first comment never arrives."""
    server.add_pull(50, body="closes #42", mergeable=False)

    def lose(request: Any) -> Any:
        if request.line.startswith("POST") and request.path.endswith("/issues/50/comments"):
            server.override = lambda _: None
            server.requests.pop()
            server.reply(request)
            return Reply(200, raw=b"", headers={"Content-Length": "100"})
        return None

    server.override = lose
    ((_, error),) = acted(poller)
    assert "has no answer" in error
    clock: Any = poller.config.clock
    clock.advance(3600)
    assert acted(poller) == [("send_fix_command", "")]
    assert len(server.comments[50]) == 1


def test_results_are_reported_on_the_epic(server: ForgeServer, poller: Poller) -> None:
    server.add_pull(50, body="closes #42", mergeable=False)
    poller.run_once()
    poller.run_once()
    ((_, text),) = server.comments[1]
    assert text.startswith("`send_fix_command` was done for #50.")
    server.issues[50]["pull"]["sha"] = "e" * 40
    poller.run_once()
    assert len(server.comments[1]) == 1


@pytest.mark.parametrize("said", ["> {}\n\nWhy?", "{} and here is what I think", "{}\n\nAgreed."])
def test_a_report_that_a_person_has_quoted_or_added_to_is_not_edited(
    server: ForgeServer, poller: Poller, said: str
) -> None:
    server.add_pull(50, body="closes #42", mergeable=False)
    poller.run_once()
    ((id_, text),) = server.comments[1]
    edited = said.format(text)
    server.comments[1] = [(id_, edited)]
    server.issues[50]["pull"]["sha"] = "e" * 40
    poller.run_once()
    assert [body for _, body in server.comments[1]] == [edited, text]


def test_a_dry_run_lists_each_request_and_sends_none(server: ForgeServer, poller: Poller) -> None:
    server.add_pull(50, body="closes #42", mergeable=False)
    server.add_pull(51, body="closes #44", open=False, merged=True)
    before = {number: dict(issue) for number, issue in server.issues.items()}
    poller.dry_run = True
    steps = [step for one in poller.run_once().rehearsals for step in one.steps]
    assert len(steps) == 3
    assert any(step.startswith("POST") and "/issues/50/comments" in step for step in steps)
    assert any(step.startswith("PATCH") and "* [x] #44" in step for step in steps)
    assert server.issues == before
    assert server.comments == {}
    paths = [line for line in server.lines("POST", "PATCH", "PUT") if "graphql" not in line]
    assert paths == []


def test_what_has_not_changed_is_not_sent_again(server: ForgeServer, source: EpicSource) -> None:
    server.add_pull(50, body="closes #42")
    first = list(source.poll())
    asked = len(server.requests)
    assert list(source.poll()) == first
    again = [request for request in server.requests[asked:] if request.method == "GET"]
    assert again
    assert all("if-none-match" in request.headers for request in again)


def test_lists_are_read_to_their_end(server: ForgeServer, source: EpicSource) -> None:
    server.page = 7
    for number in range(100, 130):
        server.add_issue(number, title="x", body=f"- [ ] #{number + 100}", labels=["epic"])
        server.add_issue(number + 100, assignees=["bob"])
    server.add_pull(500, body="closes #229")
    signals = by_child(source)
    assert len(signals) == 32
    assert signals[229].pr_number == 500


def test_a_child_that_does_not_exist_makes_no_signal(
    server: ForgeServer, source: EpicSource
) -> None:
    server.issues[1]["body"] += "- [ ] #4711\n"
    assert set(by_child(source)) == {42, 44}


def test_the_pull_request_of_a_child_is_the_first_of_the_repository_itself(
    server: ForgeServer, source: EpicSource
) -> None:
    server.add_pull(48, body="closes #42", fork=True, author="mallory")
    server.add_pull(49, body="closes #42", base="release/1.x")
    server.add_pull(50, body="closes #42")
    server.add_pull(66, body="closes #42")
    one = by_child(source)[42]
    assert (one.pr_number, one.author, one.base_branch, one.is_fork) == (50, "ann", "main", False)


def test_only_what_carries_the_label_is_an_epic(server: ForgeServer, poller: Poller) -> None:
    """Forgejo ignores a label that the repository does not have."""
    server.issues[1]["labels"] = []
    server.add_issue(7, title="Release checklist", body="- [x] #42 done\n")
    assert acted(poller) == []
    assert poller.run_once().signals == 0
    assert server.issues[7]["open"]


def test_a_pull_request_that_closes_two_children_is_acted_on_once(
    server: ForgeServer, poller: Poller
) -> None:
    server.add_pull(50, body="closes #42, closes #44", mergeable=False)
    assert acted(poller) == [("send_fix_command", "")]
    assert len(server.comments[50]) == 1


@pytest.mark.parametrize("line", ["- [ ] write the guide", "1. [ ] acme/gears#7", "> - [ ] #9"])
def test_an_epic_with_any_open_box_is_not_closed(
    server: ForgeServer, poller: Poller, line: str
) -> None:
    server.issues[1]["body"] = f"- [x] #42\n{line}\n"
    assert acted(poller) == []
    server.issues[1]["body"] = server.issues[1]["body"].replace("[ ]", "[x]")
    assert acted(poller) == [("completion", "")]


def test_a_new_conversation_between_poll_and_act_stays_open(
    server: ForgeServer, poller: Poller
) -> None:
    pull = {"threads": [False], "outdated": 1, "checks": "PENDING"}
    server.add_pull(50, body="closes #42", **pull)
    seen = []

    def open_another(request: Any) -> None:
        """When the conversations are asked for the second time."""
        is_reviews = request.path.endswith("/reviews") or "reviewThreads" in str(request.content)
        seen.extend([1] if is_reviews else [])
        if len(seen) == 2 and is_reviews:
            server.issues[50]["pull"]["threads"].append(False)

    server.override = open_another
    ((action, error),) = acted(poller)
    assert action in {"resolve_threads", "dismiss_reviews"}
    assert not error
    assert server.issues[50]["pull"]["threads"] == [True, False]


def test_sub_issues_are_children_and_keep_an_epic_open() -> None:
    with GitHubServer() as server:
        server.add_issue(1, body="", labels=["epic"])
        server.add_issue(5, assignees=["ann"])
        server.add_issue(6, open=False)
        server.sub_issues[1] = [5, 6]
        forge = GitHub(None, server.url, pause=0)
        source = EpicSource(forge, "acme", "widgets")
        assert {one.child_number: one.needs_coding for one in source.poll()} == {5: True}
        server.issues[5]["open"] = False
        assert [one.child_number for one in source.poll()] == [0]
        forge.close()
        assert server.violations == []


def test_one_impossible_number_costs_one_item(server: ForgeServer, source: EpicSource) -> None:
    server.issues[1]["body"] += "- [ ] #2147483648\n- [ ] #9999999999\n"
    assert set(by_child(source)) == {42, 44}


def test_pages_are_asked_for_at_our_address() -> None:
    with ForgejoServer() as server:
        server.root_url = "https://git.example.org"
        server.page = 7
        for number in range(100, 130):
            server.add_issue(number, body=f"- [ ] #{number + 100}", labels=["epic"])
            server.add_issue(number + 100)
        forge = Forgejo(server.url, None)
        assert len(list(EpicSource(forge, "acme", "widgets").poll())) == 30
        forge.close()


def test_no_conflict_is_reported_while_forgejo_looks_for_one(journal: Journal) -> None:
    with ForgejoServer() as server:
        server.add_issue(1, body="- [ ] #42\n- [ ] #43\n", labels=["epic"])
        server.add_issue(42)
        server.add_issue(43)
        server.add_pull(50, title="WIP: half done", body="closes #42", checks="PENDING")
        server.add_pull(51, body="closes #43", checks="PENDING", checking=True)
        clock = FakeClock(NOW)
        server.clock = clock.now
        forge = Forgejo(server.url, None, clock=clock)
        source = EpicSource(forge, "acme", "widgets", reports=False)
        handler = SendFixCommand(forge)
        with Poller(PollerConfig([source], [handler], journal, clock=clock)) as poller:
            assert acted(poller) == []
            clock.advance(120)  # it has had time enough: this is a conflict
            assert acted(poller) == [("send_fix_command", "")]
        assert list(server.comments) == [51]
        forge.close()


def test_what_is_left_of_a_rate_limit_is_a_metric(journal: Journal) -> None:
    bus = Bus()
    metrics = Metrics(bus)
    with GitHubServer() as server, contextlib.closing(GitHub(None, server.url)) as forge:
        server.add_issue(1, body="- [ ] #42\n", labels=["epic"])
        server.add_issue(42)
        source = EpicSource(forge, "acme", "widgets")
        config = PollerConfig([source], [Completion(forge)], journal, bus=bus, clock=FakeClock(NOW))
        with Poller(config) as poller:
            poller.run_once()
            known = dict(server.points)
            poller.run_once()
    assert known["core"] < 5000
    assert known["graphql"] == 4999
    assert server.points == known  # nothing was new
    for resource, left in known.items():
        labels = {"source": source.name, "resource": resource}
        value = metrics.registry.get_sample_value
        assert value("core_infra_jobs_rate_limit_points", labels) == 5000
        assert value("core_infra_jobs_rate_limit_remaining", labels) == left


def test_what_an_agent_reports_becomes_a_label_and_a_comment(
    server: ForgeServer, forge: GitHub | Forgejo, journal: Journal
) -> None:
    server.issues[42]["labels"] = ["in-progress", "size/S"]
    handler = AgentCompletion(forge, repos=[Repo("acme", "widgets")])
    report = PipelineSignal(
        repo_owner="acme",
        repo_name="widgets",
        forge=forge.host,
        child_number=42,
        type="agent_completion",
        success=False,
        error="no disk\n```\n@ann /merge",
    )
    elsewhere = dataclasses.replace(report, repo_name="other")
    state = dataclasses.replace(report, type="")
    reports = RecordedSource([report, elsewhere, state])
    with Poller(PollerConfig([reports], [handler], journal, clock=FakeClock(NOW))) as poller:
        assert acted(poller) == [("agent_completion", "")]
        assert server.issues[42]["labels"] == ["size/S", "agent-failed"]
        ((_, said),) = server.comments[42]
        assert said.startswith("```\nThe agent has failed.\n\nno disk\n'''\n@ann /merge\n```\n")
        assert acted(poller) == []
        reports.signals = [dataclasses.replace(report, success=True, error="")]
        assert acted(poller) == [("agent_completion", "")]
    assert server.issues[42]["labels"] == ["size/S", "agent-completed"]
    assert len(server.comments[42]) == 1
