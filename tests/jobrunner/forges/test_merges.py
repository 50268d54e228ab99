"""What is merged: everything that the conditions allow, and nothing that they forbid.

The model of a pull request is explored by Hypothesis: its state, checks, reviews and conversations,
on one page or on several; what is expected is calculated from the model, not from the signal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_infra.errors import InvalidError
from core_infra.jobrunner import (
    EnableAutoMerge,
    EpicSource,
    FakeClock,
    Forgejo,
    GitHub,
    Job,
    Journal,
    MergeRules,
    NotNowError,
    Poller,
    PollerConfig,
)
from jobs.api_server import NOW, Reply
from jobs.forgejo_server import ForgejoServer
from jobs.github_server import GitHubServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from jobs.forge_server import ForgeServer

EXAMPLES = int(os.environ.get("CORE_INFRA_TEST_MERGES", "40"))
GREEN = ["SUCCESS", "NEUTRAL", "SKIPPED"]
RED = ["FAILURE", "CANCELLED", "TIMED_OUT", "ACTION_REQUIRED", "STARTUP_FAILURE"]
PENDING = ["STALE", None]
HOUR = 3600.0
CLIENTS: dict[str, GitHub | Forgejo] = {}
"""By the address of the server; a new client for each example would cost most of the time."""
STRANGER = "zoe"
READY = {"", "CLEAN", "HAS_HOOKS"}
FORGEJO = {"SUCCESS": "green", "SKIPPED": "green", "PENDING": "pending"}


@dataclasses.dataclass
class Model:
    """A pull request, and the rules."""

    title: str
    draft: bool
    mergeable: bool
    state: str
    checks: list[tuple[str, Any]]
    reviews: list[tuple[str, str]]
    threads: list[bool]
    base: str
    fork: bool
    author: str
    labels: list[str]
    pages: bool
    again: bool
    rules: dict[str, Any]


PLAIN = Model(
    title="Fix it",
    draft=False,
    mergeable=True,
    state="",
    checks=[("a", "SUCCESS")],
    reviews=[],
    threads=[],
    base="main",
    fork=False,
    author="ann",
    labels=[],
    pages=False,
    again=False,
    rules={},
)


def run(conclusion: Any) -> Any:
    if conclusion == "PENDING":
        return {"status": "IN_PROGRESS", "conclusion": None}
    return {"status": "COMPLETED", "conclusion": conclusion}


reviewers = st.sampled_from(["ann", "bob", "eve", STRANGER])
github_state = st.one_of(
    st.sampled_from(["SUCCESS", "PENDING", "FAILURE", "ERROR", "EXPECTED"]),
    st.sampled_from([*GREEN, *RED, *PENDING, "PENDING"]).map(run),
)
forgejo_state = st.sampled_from(["SUCCESS", "SKIPPED", "PENDING", "FAILURE", "ERROR", "WARNING"])


def models(
    state: Any,
    opinions: list[str],
    *,
    green: list[Any],
    states: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
) -> st.SearchStrategy[Model]:
    """Pull requests that may be merged but for one thing or two, and rules of a few conditions."""
    yes = st.just(True)  # noqa: FBT003 - a value

    def checks(some: Any) -> Any:
        named = st.tuples(st.sampled_from("abc"), some)
        return st.lists(named, max_size=3, unique_by=lambda one: one[0])

    good = st.fixed_dictionaries(
        {
            "checks": checks(st.sampled_from(green)).map(lambda some: some or [("a", "SUCCESS")]),
            "reviews": st.lists(st.tuples(reviewers, st.just("APPROVED")), max_size=3),
            "pages": st.booleans(),
        }
    )
    other = {
        "title": st.sampled_from(["WIP: fix it", "[Draft] fix it"]),
        "draft": yes,
        "mergeable": st.just(False),  # noqa: FBT003 - a value
        "checks": checks(state),
        "reviews": st.lists(st.tuples(reviewers, st.sampled_from(opinions)), max_size=4),
        "threads": st.lists(st.booleans(), min_size=1, max_size=2),
        "base": st.just("release/1"),
        "fork": yes,
        "author": st.sampled_from(["bob", "eve", "renovate[bot]", "renovateb"]),
        "labels": st.lists(st.sampled_from(["ready", "Hold", "bug"]), max_size=2, unique=True),
        "again": yes,
    }
    if states:
        other["state"] = st.sampled_from(states)
    rules = {
        "checks": st.just(["a"]),
        "no_checks": yes,
        "approvals": st.integers(1, 2),
        "base": st.just(["main", "release/*"]),
        "authors": st.sampled_from([["ann", "bo*"], ["renovate[bot]"], ["renovate"]]),
        "forks": yes,
        "labels": st.just(["READY"]),
        "without_labels": st.just([]),
        "method": st.sampled_from(["merge", "rebase", "squash", *methods]),
        "update": yes,
    }
    some_other, some_rules = (
        st.lists(
            st.one_of([st.tuples(st.just(key), values) for key, values in kind.items()]), max_size=2
        ).map(dict)
        for kind in (other, rules)
    )
    return st.builds(
        lambda good, other, rules: dataclasses.replace(PLAIN, **{**good, **other, "rules": rules}),
        *(good, some_other, some_rules),
    )


def is_green(state: Any) -> bool:
    if isinstance(state, dict):
        return state["status"] == "COMPLETED" and state["conclusion"] in GREEN
    return state in {"SUCCESS", "SKIPPED"}


def is_by(author: str, authors: list[str] | None) -> bool:
    if authors is None:
        return True
    return author in {"ann", "bob"} if "ann" in authors else author == "renovate[bot]"


def allowed(model: Model) -> bool:
    rules = model.rules
    states = dict(model.checks)
    if "checks" in rules:
        checks = "a" in states and is_green(states["a"])
    else:
        checks = all(map(is_green, states.values())) and (bool(states) or "no_checks" in rules)
    last = {who: state for who, state in model.reviews if not state.startswith("COMMENT")}
    last.pop(STRANGER, None)
    is_queued = rules.get("method") == "queue"
    is_ready = model.state in READY or (model.state == "UNSTABLE" and "checks" in rules)
    wanted = {"CHANGES_REQUESTED", "REQUEST_CHANGES"}
    return all(
        (
            model.title == "Fix it" and not model.draft and model.mergeable and checks,
            all(model.threads) and not wanted & set(last.values()),
            list(last.values()).count("APPROVED") >= rules.get("approvals", 0),
            model.base == "main" or "base" in rules,
            not model.fork or "forks" in rules,
            is_by(model.author, rules.get("authors")),
            is_ready or (is_queued and model.state in {"BEHIND", "UNSTABLE"}),
            "ready" in model.labels or "labels" not in rules,
            "Hold" not in model.labels or "without_labels" in rules,
        )
    )


def expected(server: ForgeServer, model: Model) -> bool:
    """Whether it is merged; on Forgejo, what is for another branch is no child's."""
    is_a_childs = isinstance(server, GitHubServer) or model.base == "main"
    return is_a_childs and allowed(model)


def review(who: str, state: str, when: datetime) -> tuple[Any, ...]:
    """A review; one that was dismissed keeps its state on Forgejo."""
    if state == "REQUEST_CHANGES dismissed":
        return who, "REQUEST_CHANGES", when, {"dismissed": True}
    return who, state, when


def set_up(server: ForgeServer, model: Model, comment: str) -> None:
    server.issues.clear()
    server.merged.clear()
    server.add_issue(1, body="- [ ] #42\n", labels=["epic"])
    server.add_issue(42)
    checks, reviews, threads = list(model.checks), list(model.reviews), list(model.threads)
    if model.again:  # what came of it at first does not count any more
        checks = [
            (name, {**state, "again": 1} if isinstance(state, dict) else state)
            for name, state in checks
        ]
        first = run("CANCELLED")
        checks = [*((name, first) for name, state in checks if isinstance(state, dict)), *checks]
    if model.pages:
        threads = [True] * 120 + threads if "D" in comment else threads
        # What decides is on the last page of the one list, and on the first of the other.
        some = [(f"more-{place}", "SUCCESS") for place in range(120)]
        checks = [*some, *checks] if checks else checks
        reviews += [("eve", comment)] * 120
    server.add_pull(
        50,
        title=model.title,
        body="closes #42",
        labels=model.labels,
        draft=model.draft,
        mergeable=model.mergeable,
        contexts=checks,
        reviews=[
            review(who, state, NOW + timedelta(minutes=place))
            for place, (who, state) in enumerate(reviews)
        ],
        strangers=[STRANGER],
        state=model.state,
        threads=threads,
        base=model.base,
        fork=model.fork,
        author=model.author,
        closes=[42],
    )


def client(server: ForgeServer, clock: FakeClock) -> GitHub | Forgejo:
    if isinstance(server, GitHubServer):
        return GitHub(None, server.url, pause=0, clock=clock)
    return Forgejo(server.url, None, clock=clock)


@contextlib.contextmanager
def bot(server: ForgeServer, rules: MergeRules) -> Iterator[Poller]:
    clock = FakeClock(NOW)
    forge = client(server, clock)
    with tempfile.TemporaryDirectory() as base, Journal(base) as journal:
        source = EpicSource(forge, "acme", "widgets")
        config = PollerConfig([source], [EnableAutoMerge(forge, rules)], journal, clock=clock)
        with Poller(config) as poller:
            yield poller
        forge.close()


def merges(server: ForgeServer, model: Model) -> bool:
    """Whether one cycle merges it; without a poller, which would only cost time here."""
    with contextlib.closing(client(server, FakeClock(NOW))) as forge:
        handler = EnableAutoMerge(forge, MergeRules(**model.rules))
        for seen in EpicSource(forge, "acme", "widgets").poll():
            if handler.match(seen):
                job = Job(id="1", action=handler.name, signal=seen, first_tried=NOW, timeout=HOUR)
                with contextlib.suppress(NotNowError):
                    assert handler.execute(seen, job).success
    assert server.violations == []
    queued = server.issues[50]["pull"]["queued"]
    assert {sha for _, sha in server.merged} | ({queued} - {""}) <= {f"{50:040x}"}
    return bool(server.merged or queued)


@pytest.fixture(scope="module")
def github() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        yield server
        if server.url in CLIENTS:
            CLIENTS.pop(server.url).close()


@pytest.fixture(scope="module")
def forgejo() -> Iterator[ForgejoServer]:
    with ForgejoServer() as server:
        yield server
        if server.url in CLIENTS:
            CLIENTS.pop(server.url).close()


ALONE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({"labels": labels}, {}) for labels in (["Hold"], ["bug"])),
    *(({"labels": labels}, {"labels": ["READY"]}) for labels in ([], ["ready"])),
    ({"labels": ["Hold"]}, {"without_labels": []}),
    *(({"base": "release/1"}, rules) for rules in ({}, {"base": ["main", "release/*"]})),
    *(({"fork": True}, rules) for rules in ({}, {"forks": True})),
    *(({"author": who}, {"authors": ["ann", "bo*"]}) for who in ("eve", "bob")),
    *(({"author": who}, {"authors": ["renovate[bot]"]}) for who in ("renovate[bot]", "renovateb")),
    ({"author": "renovate[bot]"}, {"authors": ["renovate"]}),
    ({"title": "WIP: fix it", "draft": True}, {}),
    ({"mergeable": False}, {}),
    *(({"checks": []}, rules) for rules in ({}, {"no_checks": True})),
    *(({"checks": [("b", "SUCCESS")]}, rules) for rules in ({"checks": ["a"]}, {})),
    ({"checks": [("a", "SUCCESS"), ("b", "FAILURE")]}, {"checks": ["a"]}),
    ({"checks": [("a", "FAILURE")], "pages": True}, {}),
    ({"checks": [("a", "SUCCESS")], "pages": True}, {"checks": ["a"]}),
    ({"checks": [("a", "PENDING")]}, {"no_checks": True}),
    *(({"reviews": [("bob", "APPROVED")]}, {"approvals": number}) for number in (1, 2)),
    ({"reviews": [("bob", "APPROVED")], "pages": True}, {"approvals": 1}),
    *(({"reviews": [(STRANGER, state)]}, {"approvals": 1}) for state in ("APPROVED", "ASK")),
    *(({"reviews": [(who, "ASK")]}, {}) for who in ("bob", STRANGER)),
    ({"reviews": [("bob", "ASK")], "pages": True}, {}),
    ({"reviews": [("bob", "ASK"), ("bob", "APPROVED")]}, {}),
    ({"reviews": [("bob", "APPROVED"), ("bob", "ASK")]}, {}),
    ({"reviews": [("bob", "ASK"), ("bob", "SAY")]}, {}),
    ({"reviews": [("bob", "APPROVED"), ("bob", "SAY")]}, {"approvals": 1}),
    ({"reviews": [("bob", "DISMISSED")]}, {}),
    *(({"threads": threads}, {}) for threads in ([True], [True, False])),
]
"""One thing, and the rules that it decides by."""
ALONE_GITHUB: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({"checks": [("a", run(word))]}, {}) for word in [*GREEN, *RED, *PENDING, "PENDING"]),
    *(({"state": state}, {}) for state in ["HAS_HOOKS", "BLOCKED", "BEHIND", "UNKNOWN"]),
    *(({"state": "UNSTABLE"}, rules) for rules in ({}, {"checks": ["a"]})),
    *(({"state": state}, {"method": "queue"}) for state in ("", "BEHIND")),
    *(({"checks": [("a", run(word))], "again": True}, {}) for word in ("SUCCESS", "FAILURE")),
    ({"reviews": [("bob", "ASK"), ("bob", "DISMISSED")]}, {}),
    ({"threads": [False], "pages": True}, {}),
]
ALONE_FORGEJO: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({"checks": [("a", word)]}, {}) for word in ("SKIPPED", "ERROR", "WARNING", "PENDING")),
]
GITHUB_WORDS = {"ASK": "CHANGES_REQUESTED", "SAY": "COMMENTED"}
FORGEJO_WORDS = {
    "ASK": "REQUEST_CHANGES",
    "SAY": "COMMENT",
    "DISMISSED": "REQUEST_CHANGES dismissed",
}


def decides_alone(
    server: ForgeServer, case: tuple[dict[str, Any], dict[str, Any]], words: dict[str, str]
) -> None:
    change, rules = case
    model = dataclasses.replace(PLAIN, **change, rules=rules)
    model.reviews = [(who, words.get(state, state)) for who, state in model.reviews]
    set_up(server, model, words["SAY"])
    assert merges(server, model) is expected(server, model), model


def test_each_thing_decides_alone_on_github(github: GitHubServer) -> None:
    for case in [*ALONE, *ALONE_GITHUB]:
        decides_alone(github, case, GITHUB_WORDS)


def test_each_thing_decides_alone_on_forgejo(forgejo: ForgejoServer) -> None:
    for case in [*ALONE, *ALONE_FORGEJO]:
        decides_alone(forgejo, case, FORGEJO_WORDS)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    models(
        github_state,
        ["APPROVED", "APPROVED", "CHANGES_REQUESTED", "COMMENTED", "DISMISSED"],
        green=["SUCCESS", *map(run, GREEN)],
        states=("CLEAN", "HAS_HOOKS", "BLOCKED", "BEHIND", "UNSTABLE", "UNKNOWN"),
        methods=("queue",),
    )
)
def test_github(github: GitHubServer, model: Model) -> None:
    set_up(github, model, "COMMENTED")
    assert merges(github, model) is expected(github, model)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    models(
        forgejo_state,
        ["APPROVED", "APPROVED", "REQUEST_CHANGES", "REQUEST_CHANGES dismissed", "COMMENT"],
        green=["SUCCESS", "SKIPPED"],
    )
)
def test_forgejo(forgejo: ForgejoServer, model: Model) -> None:
    if model.draft:
        model.title = "WIP: fix it"
    set_up(forgejo, model, "COMMENT")
    assert merges(forgejo, model) is expected(forgejo, model)


@pytest.mark.parametrize("state", ["BLOCKED", "BEHIND", "UNSTABLE", "UNKNOWN", "DIRTY", "DRAFT"])
def test_github_has_the_last_word(github: GitHubServer, state: str) -> None:
    set_up(github, PLAIN, "")
    github.issues[50]["pull"]["state"] = state
    with bot(github, MergeRules()) as poller:
        for _ in range(5):
            assert poller.run_once().results == []
        assert github.merged == []
        github.issues[50]["pull"]["state"] = ""
        poller.config.clock.advance(3600)  # type: ignore[attr-defined]  # it is a FakeClock
        (result,) = poller.run_once().results
    assert result.success
    assert github.merged == [(50, f"{50:040x}")]


def test_a_branch_that_is_behind_is_updated_if_that_is_wanted(github: GitHubServer) -> None:
    github.issues.clear()
    github.merged.clear()
    github.add_issue(1, body="- [ ] #42\n", labels=["epic"])
    github.add_issue(42)
    github.add_pull(50, body="closes #42", state="BEHIND")
    with bot(github, MergeRules(update=True)) as poller:
        assert poller.run_once().results == []
        assert poller.run_once().results[0].success
    assert github.merged == [(50, f"{57:040x}")]


def test_the_merge_queue(github: GitHubServer) -> None:
    github.issues.clear()
    github.add_issue(1, body="- [ ] #42\n", labels=["epic"])
    github.add_issue(42)
    github.add_pull(50, body="closes #42")
    with bot(github, MergeRules(method="queue")) as poller:
        assert poller.run_once().results[0].success
        assert poller.run_once().results == []
    assert github.issues[50]["pull"]["queued"] == f"{50:040x}"


@pytest.mark.parametrize(
    ("reply", "attempts"),
    [
        (Reply(405, {"message": "Changes must be made through the merge queue"}), 1),
        (Reply(405, {"message": "Squash merges are not allowed on this repository."}), 1),
        (Reply(403, {"message": "Resource not accessible by personal access token"}), 1),
        (Reply(405, {"message": "Base branch was modified. Review and try the merge again."}), 0),
        (Reply(409, {"message": "Head branch was modified."}), 0),
    ],
)
def test_what_github_refuses_for_good_is_tried_once(
    github: GitHubServer, reply: Reply, attempts: int
) -> None:
    set_up(github, PLAIN, "")
    github.comments.clear()
    github.override = lambda request: reply if request.method == "PUT" else None
    with bot(github, MergeRules()) as poller:
        failed = 0
        for _ in range(15):
            failed += len(poller.run_once().results)
            poller.config.clock.advance(3600)  # type: ignore[attr-defined]  # it is a FakeClock
        assert failed == attempts
        assert len(github.comments.get(1, [])) == attempts
        github.override = lambda _: None
        poller.run_once()
    assert bool(github.merged) is not bool(attempts)


def test_rules_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InvalidError, match="cannot be merged by 'octopus'"):
        MergeRules(method="octopus")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InvalidError, match="checks is 'ci'"):
        MergeRules(checks="ci")
