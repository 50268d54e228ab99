"""From a configuration file to sources and handlers: each handler acts for its own source only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from core_infra.errors import InvalidError
from core_infra.jobrunner import (
    EnableAutoMerge,
    JobHandler,
    Journal,
    MergeRules,
    Poller,
    PollerConfig,
    load_jobs_config,
    make_parts,
)
from core_infra.jobrunner._config.parts import check_parts, close_parts
from jobs.api_server import Reply
from jobs.forgejo_server import ForgejoServer
from jobs.github_server import GitHubServer

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.jobrunner import JobSource
    from jobs.api_server import Request


def parts(
    path: Path, *sources: dict[str, Any], **rest: Any
) -> tuple[list[JobSource], list[JobHandler]]:
    file = path / "jobs.yaml"
    file.write_text(yaml.safe_dump({"sources": list(sources), **rest}))
    return make_parts(load_jobs_config(str(file)))


def bound(handlers: list[JobHandler]) -> dict[str, list[str]]:
    return {one.name: sorted(getattr(one, "sources", ())) for one in handlers}


def github(*repos: str, **fields: Any) -> dict[str, Any]:
    return {"type": "github", "repos": list(repos), "handlers": ["tick_parent"], **fields}


def test_one_forge_has_bare_names(tmp_path: Path) -> None:
    _, handlers = parts(tmp_path, github("acme/a", "acme/b"))
    assert bound(handlers) == {"tick_parent": ["github.com:acme/a", "github.com:acme/b"]}


def test_two_owners_two_labels_and_two_names_of_one_host(tmp_path: Path) -> None:
    _, handlers = parts(tmp_path, github("acme/a"), github("other/b", token_env="T"))  # noqa: S106 - a name
    assert bound(handlers) == {
        "tick_parent@github.com:acme": ["github.com:acme/a"],
        "tick_parent@github.com:other": ["github.com:other/b"],
    }
    _, handlers = parts(tmp_path, github("acme/a"), github("acme/a", label="story"))
    assert bound(handlers) == {
        "tick_parent@github.com:epic": ["github.com:acme/a"],
        "tick_parent@github.com:story": ["github.com:acme/a:story"],
    }
    _, handlers = parts(tmp_path, github("acme/a", name="x"), github("acme/a", name="y"))
    assert bound(handlers) == {"tick_parent@x": ["x:acme/a"], "tick_parent@y": ["y:acme/a"]}


def test_two_forges_of_one_host_are_told_apart(tmp_path: Path) -> None:
    forgejo = {"type": "forgejo", "handlers": ["completion"], "repos": ["acme/a"]}
    sources, handlers = parts(
        tmp_path, {**forgejo, "url": "http://h:1"}, {**forgejo, "url": "http://h:2/git"}
    )
    assert [one.name for one in sources] == ["h:1:acme/a", "h:2/git:acme/a"]
    assert list(bound(handlers)) == ["completion@h:1", "completion@h:2:git"]


def test_defaults_and_overrides(tmp_path: Path) -> None:
    merge = {"checks": ["ci"], "approvals": 1}
    handlers = ["enable_auto_merge"]
    sources, made = parts(
        tmp_path,
        {
            "type": "github",
            "repos": ["acme/a", "acme/b", "acme/c"],
            "overrides": {
                "acme/b": {"handlers": [], "priority": -1},
                "Acme/C": {"merge": {"approvals": 2, "method": "rebase"}},
            },
        },
        defaults={"handlers": handlers, "merge": merge, "chain": True, "priority": 3},
    )
    assert bound(made) == {
        "enable_auto_merge": ["github.com:acme/a"],
        "enable_auto_merge@acme:c": ["github.com:acme/c"],
    }
    rules = [one.rules for one in made if isinstance(one, EnableAutoMerge)]
    assert rules == [
        MergeRules(checks=("ci",), approvals=1),
        MergeRules(checks=("ci",), approvals=2, method="rebase"),
    ]
    assert all(getattr(one, "chain", False) for one in made)
    assert [getattr(one, "priority", 0) for one in sources] == [3, -1, 3]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("merge: {method: octopus}", "octopus"),
        ("merge: {approvals: -1}", "a whole number"),
        ("merge: {checks: ci}", "checks"),
        ("overrides: {acme: {}}", "OWNER/NAME"),
        ("overrides: {acme/a: {url: x}}", "url"),
        ("overrides: {acme/b: {merge: {approvals: 2}}}", "not among the repos"),
        ("priority: high", "a whole number"),
        ("app: {id: 1}", "installation"),
    ],
)
def test_a_mistake_is_reported_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(f"sources:\n  - type: github\n    repos: [acme/a]\n    {text}\n")
    with pytest.raises(InvalidError, match=told) as caught:
        load_jobs_config(str(file))
    assert "4" in str(caught.value)


def test_repositories_are_discovered(tmp_path: Path) -> None:
    with GitHubServer() as server:

        def repositories(request: Request) -> Reply | None:
            names = [("a", False), ("b", False), ("old", True), ("secret", False)]
            found = [{"name": name, "archived": archived} for name, archived in names]
            return Reply(200, found) if request.path == "/users/acme/repos" else Reply(404, {})

        server.override = repositories
        sources, handlers = parts(
            tmp_path, github("acme/*", "other/x", url=server.url, exclude=["acme/sec*"])
        )
        close_parts(sources)
    assert handlers
    assert [one.name.rpartition(":")[2] for one in sources] == ["acme/a", "acme/b", "other/x"]


def test_a_handler_never_acts_for_another_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T_PROD", "prod")
    monkeypatch.setenv("T_SANDBOX", "sandbox")
    with GitHubServer() as server, Journal(tmp_path / "journal") as journal:
        server.add_issue(1, body="- [ ] #42\n", labels=["epic"])
        server.add_issue(42)
        server.add_pull(50, body="closes #42")
        sources, handlers = parts(
            tmp_path,
            github("acme/widgets", url=server.url, handlers=[], token_env="T_PROD"),  # noqa: S106 - a name
            github(
                *("acme/sandbox",),
                url=server.url,
                handlers=["enable_auto_merge"],
                token_env="T_SANDBOX",  # noqa: S106 - a name
            ),
        )
        with Poller(PollerConfig(sources, handlers, journal)) as poller:
            poller.run_once()
        close_parts(sources)
        assert server.merged == []
        used = {request.headers["authorization"] for request in server.requests}
        assert used == {"Bearer prod", "Bearer sandbox"}


def test_check_reports_what_would_not_work(tmp_path: Path) -> None:
    with ForgejoServer() as server:
        server.add_issue(1, body="- [ ] #42\n", labels=["epic"])
        server.add_issue(42)
        server.add_pull(50, body="closes #42", labels=["hold"])

        def answer(request: Request) -> Reply | None:
            if request.path.endswith("/acme/widgets"):
                rights = {"permissions": {"push": False}, "allow_rebase": True}
                return Reply(200, {"default_branch": "main", **rights})
            return Reply(404, {}) if "branch_protections" in request.path else None

        server.override = answer
        file = tmp_path / "jobs.yaml"
        source = {
            "type": "forgejo",
            "url": server.url,
            "repos": ["acme/widgets"],
            "handlers": ["enable_auto_merge"],
        }
        file.write_text(yaml.safe_dump({"sources": [source]}))
        found = list(check_parts(load_jobs_config(str(file))))
        writes = [one for one in server.requests if one.method != "GET"]
    wrong = [one.text for one in found if one.is_wrong]
    assert wrong == [
        "the token may not write, or it is archived",
        "merge by squash; allowed: rebase",
    ]
    assert any("waits for: it has the label hold" in one.text for one in found)
    assert writes == []


def test_agents_report_in_a_directory_about_the_repositories_of_an_entry(tmp_path: Path) -> None:
    signals = tmp_path / "signals"
    signals.mkdir()
    report = {"type": "agent_completion", "success": True, "repo_owner": "acme"}
    with ForgejoServer() as server:
        for number in (42, 43):
            server.add_issue(number, labels=["in-progress"])
        forge = {"type": "forgejo", "url": server.url, "repos": ["acme/widgets"]}
        sources, handlers = parts(
            tmp_path,
            {"type": "directory", "path": str(signals)},
            {**forge, "handlers": ["agent_completion"]},
        )
        host = sources[1].name.partition(":")[0]
        found = [
            {**report, "repo_name": name, "child_number": number, "forge": where}
            for name, number, where in [
                ("widgets", 42, host),
                ("widgets", 43, "github.com"),
                ("tools", 43, host),
            ]
        ]
        (signals / "a.json").write_text(json.dumps(found))
        with (
            Journal(tmp_path / "journal") as journal,
            Poller(PollerConfig(sources, handlers, journal)) as poller,
        ):
            assert [one.item for one in poller.run_once().results] == ["acme/widgets#42"]
        close_parts(sources)
    assert server.issues[42]["labels"] == ["agent-completed"]
    assert server.issues[43]["labels"] == ["in-progress"]
    assert server.violations == []
