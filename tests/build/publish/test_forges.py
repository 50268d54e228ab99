"""Releases on GitHub and Forgejo: drafts first, completed by a second run, published at the end."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from build_samples import need
from core_infra.build._artifact import host_target
from core_infra.build._config.load import load_config
from core_infra.build._config.settings import ForgeSettings, PublishSettings
from core_infra.build._errors import ConfigError, PreflightError, PublishError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from core_infra.build._publish import forge as forge_module
from core_infra.build._publish.publish import (
    is_finished,
    publish_problems,
    publish_release,
    publish_requests,
)
from core_infra.errors import WrongStateError
from core_infra.medium._memory import MemoryMedium
from jobs.api_server import Reply, Request
from jobs.release_servers import (
    REPOSITORY,
    TOKEN,
    ForgejoReleases,
    GitHubReleases,
    ReleaseServer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core_infra.build._plan import BuildPlan

KINDS = {"github": GitHubReleases, "forgejo": ForgejoReleases}
LINE = 'echo "{{.VERSION}}" > "{{.OUTPUT_DIR}}/app"'
TASKFILE = json.dumps({"version": "3", "tasks": {"build": {"cmds": [LINE]}}})
LOG: list[str] = []


def git(directory: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *who, *words], cwd=directory, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def project(directory: Path, publish: object, *, tag: str = "v1.0.0") -> Path:
    need("task", "git")
    (directory / ".core").mkdir(parents=True)
    settings = {"publish": publish, "targets": [{"os": "linux", "arch": host_target().arch}]}
    (directory / ".core" / "build.yaml").write_text(json.dumps(settings))
    (directory / "Taskfile.yml").write_text(TASKFILE)
    (directory / ".gitignore").write_text("dist\n")
    (directory / "CHANGELOG.md").write_text("# Changes\n\n## 1.0.0\n\nIt *works*.\n\n## 0.9\n\nx\n")
    git(directory, "init", "-q")
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "one")
    git(directory, "tag", tag)
    return directory


@pytest.fixture(params=KINDS)
def server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReleaseServer]:
    monkeypatch.setenv(f"{request.param.upper()}_TOKEN", TOKEN)
    monkeypatch.setattr(forge_module, "_FIRST_WAIT", 0.001)
    with KINDS[request.param]() as running:
        yield running
    assert running.violations == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> BuildPlan:
    """A finished release."""
    planned = make_plan(project(tmp_path_factory.mktemp("forges") / "app", {}), goal="release")
    carry_out(planned)
    return planned


@pytest.fixture
def plan(server: ReleaseServer, finished: BuildPlan) -> BuildPlan:
    """The release, to be published on the server, which has its tag."""
    return published_at(finished, server)


def published_at(finished: BuildPlan, server: ReleaseServer) -> BuildPlan:
    kind = "forgejo" if isinstance(server, ForgejoReleases) else "github"
    context = finished.context
    server.tags["v1.0.0"] = context.commit
    where = PublishSettings((ForgeSettings(kind, "acme/app", server.url),))
    planned = replace(
        finished, context=replace(context, settings=replace(context.settings, publish=where))
    )
    assert publish_problems(planned) == []
    return planned


def files(plan: BuildPlan) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in plan.context.output_dir.iterdir() if path.is_file()
    }


def publish(plan: BuildPlan) -> list[str]:
    LOG.clear()
    return publish_release(plan, report=LOG.append)


def test_a_release_is_a_draft_until_it_is_complete(server: ReleaseServer, plan: BuildPlan) -> None:
    states = []

    def look(request: Request) -> None:
        if request.method == "POST":
            states.append([one["draft"] for one in server.releases.values()])

    server.override = look
    assert publish(plan) == [f"{server.url}/acme/app/releases/1"]
    assert states == [[], *[[True]] * len(files(plan))]
    assert server.published() == {"v1.0.0": files(plan)}
    assert server.uploads[-1] == "CHECKSUMS.txt"
    release = server.releases[1]
    assert release["body"].startswith("It *works*.\n\n<!-- core-infra: ")
    assert (release["name"], release["prerelease"]) == ("v1.0.0", False)
    changes = server.lines("POST", "PATCH", "DELETE")
    assert publish(plan) == [f"{server.url}/acme/app/releases/1"]
    assert server.lines("POST", "PATCH", "DELETE") == changes


def test_what_breaks_off_is_repeated_and_not_sent_twice(
    server: ReleaseServer, plan: BuildPlan
) -> None:
    server.lost = 3
    failing = iter([503, 502, 0, 500, 0, 0, 429])

    def fail(request: Request) -> Reply | None:
        status = next(failing, 0) if request.method != "GET" else 0
        return Reply(status, {"message": "later"}) if status else None

    server.override = fail
    publish(plan)
    assert server.published() == {"v1.0.0": files(plan)}
    assert len(server.uploads) == len(files(plan)) + 3
    assert (
        sum(
            request.line.endswith("/releases")
            for request in server.requests
            if request.method == "POST"
        )
        == 3
    )
    assert any("trying again" in line for line in LOG)


def test_a_lost_answer_to_a_change_makes_no_second_release(
    server: ReleaseServer, plan: BuildPlan
) -> None:
    lost = {"POST", "PATCH"}

    def lose(request: Request) -> Reply | None:
        if request.method in lost:
            lost.discard(request.method)
            server.answer(request, request.path.removeprefix(server.prefix))
            return Reply(raw=b"", headers={"Content-Length": "5"})
        return None

    server.override = lose
    publish(plan)
    assert server.published() == {"v1.0.0": files(plan)}
    assert len(server.releases) == 1


def test_a_server_that_stays_away_leaves_a_draft_that_a_second_run_completes(
    server: ReleaseServer, plan: BuildPlan
) -> None:
    server.override = lambda _: Reply(503, {"message": TOKEN}) if len(server.uploads) == 2 else None
    with pytest.raises(PublishError, match="Run it again later") as error:
        publish(plan)
    assert TOKEN not in str(error.value) + repr(error.value.facts)
    assert server.published() == {}
    server.override = lambda _: None
    publish(plan)
    assert server.published() == {"v1.0.0": files(plan)}
    assert sorted(server.uploads) == sorted(files(plan))


def test_a_draft_of_another_build_is_emptied_first(server: ReleaseServer, plan: BuildPlan) -> None:
    body = f"old\n\n<!-- core-infra: {hashlib.sha256(b'other').hexdigest()} -->"
    server.releases[77] = {"tag_name": "v1.0.0", "draft": True, "body": body, "name": "v1.0.0"}
    for number, name in enumerate(("CHECKSUMS.txt", "of-an-older-build.txt")):
        size = (plan.context.output_dir / "CHECKSUMS.txt").stat().st_size
        server.files[90 + number] = (77, name, b"x" * size)
    publish(plan)
    assert server.published() == {"v1.0.0": files(plan)}
    assert list(server.releases) == [77]


@pytest.mark.parametrize(
    ("release", "why"),
    [
        ({"draft": True, "body": "mine"}, "core-infra did not make it"),
        ({"draft": False, "body": ""}, "already published.*does not have these files"),
    ],
)
def test_what_others_made_is_not_changed(
    release: dict[str, object], why: str, server: ReleaseServer, plan: BuildPlan
) -> None:
    server.releases[77] = {"tag_name": "v1.0.0", "name": "mine", **release}
    server.files[78] = (77, "CHECKSUMS.txt", b"x")
    with pytest.raises(PublishError, match=why):
        publish(plan)
    assert server.lines("POST", "PATCH", "DELETE") == []


def test_the_tag_must_be_there_and_of_this_commit(server: ReleaseServer, plan: BuildPlan) -> None:
    server.tags["v1.0.0"] = "f" * 40
    with pytest.raises(PublishError, match="is of commit ffff"):
        publish(plan)
    server.tags.clear()
    with pytest.raises(PublishError, match=r"no such tag.*\ngit push origin v1"):
        publish(plan)
    assert server.lines("POST", "PATCH", "DELETE") == []


def test_a_dry_run_shows_every_request_and_sends_none(
    server: ReleaseServer, plan: BuildPlan
) -> None:
    shown = [line.partition(" (")[0].partition(" {")[0] for line in publish_requests(plan)]
    assert server.requests == []
    publish(plan)
    sent = [
        f"{one.method} {server.url}{one.path}{'?' * bool(one.query)}"
        + "&".join(f"{name}={value}" for name, value in one.query.items())
        for one in server.requests
    ]
    expected = [line.replace("/ID", "/1") for line in shown]
    # Publishing looks once more before the last request.
    assert list(dict.fromkeys(sent)) == expected


def test_only_the_finished_release_of_these_sources_is_published(
    finished: BuildPlan, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    shutil.copytree(finished.context.project_dir, app, symlinks=True)
    same = make_plan(app, goal="release")
    assert is_finished(same)
    path = app / "dist" / "manifest.json"
    data = path.read_bytes()
    path.write_bytes(data + b" ")
    assert not is_finished(same)
    path.write_bytes(data)
    (app / "Taskfile.yml").write_text(TASKFILE + "\n")
    changed = make_plan(app, goal="release", version="v1.0.0")
    with pytest.raises(WrongStateError, match="does not have the release"):
        publish_release(changed, report=LOG.append)


def test_github_may_not_rename_files(monkeypatch: pytest.MonkeyPatch, finished: BuildPlan) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    with GitHubReleases() as server:
        made = published_at(finished, server)

        def rename(request: Request) -> Reply | None:
            if "name" in request.query:
                server.files[50] = (1, "renamed.txt", b"x")
                return Reply(201, server.asset(50))
            return None

        server.override = rename
        with pytest.raises(PublishError, match=r"has renamed .* to renamed\.txt"):
            publish_release(made, report=LOG.append)
        assert server.published() == {}


def test_the_token_goes_to_one_origin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: BuildPlan
) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    monkeypatch.setenv("GITHUB_TOKEN_FILE", str(token))
    with GitHubReleases() as server, GitHubReleases() as thief:
        made = published_at(finished, server)

        def lead_away(request: Request) -> Reply | None:
            if request.method == "POST" and request.path.endswith("/releases"):
                reply = server.answer(request, request.path)
                upload = f"{thief.url}{REPOSITORY}/releases/1/assets{{?name,label}}"
                return reply._replace(content={**reply.content, "upload_url": upload})
            return None

        server.override = lead_away
        with pytest.raises(PublishError, match="the token is for"):
            publish_release(made, report=LOG.append)
        server.override = lambda _: Reply(302, None, {"Location": thief.url})
        with pytest.raises(PublishError, match="status 302"):
            publish_release(made, report=LOG.append)
        assert thief.requests == []


def test_without_a_token_nothing_is_sent(
    server: ReleaseServer, plan: BuildPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in KINDS:
        monkeypatch.delenv(f"{kind.upper()}_TOKEN", raising=False)
    with pytest.raises(PreflightError, match=r"cannot be published here.* needs a token"):
        publish(plan)
    assert server.requests == []


def test_problems_are_reported_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GITHUB_TOKEN", "GITHUB_TOKEN_FILE", "PYPI_TOKEN", "TWINE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    where = {"github": {"repository": "acme/app"}, "pypi": "testpypi"}
    app = project(tmp_path / "app", where)
    (app / "CHANGELOG.md").write_text("later\n")
    git(app, "commit", "-qam", "two")
    problems = publish_problems(make_plan(app, goal="release"))
    for text in ("is not a version to publish", "set GITHUB_TOKEN", "set PYPI_TOKEN", "Python"):
        assert [one for one in problems if text in one], text
    nowhere = publish_problems(make_plan(project(tmp_path / "b", {}), goal="release"))
    assert nowhere == ["there is nowhere to publish: configure publish in .core/build.yaml"]


@pytest.mark.parametrize(
    ("yaml", "why"),
    [
        ("{github: {repository: acme}}", "as OWNER/NAME"),
        ("{github: {}}", "publish.github.repository: missing field"),
        ("{forgejo: {repository: a/b}}", "publish.forgejo.url: missing field"),
        ("{forgejo: {repository: a/b, url: 'http://git.example.org'}}", "not encrypted"),
        ("{forgejo: {repository: a/b, url: 'https://me:pw@git.example.org'}}", "has credentials"),
        ("{pypi: warehouse}", "not of the form https"),
        ("{gitlab: {}}", "unknown field"),
    ],
)
def test_mistakes_in_the_configuration(yaml: str, why: str) -> None:
    medium = MemoryMedium()
    medium.write_text(".core/build.yaml", f"publish: {yaml}\n")
    with pytest.raises(ConfigError, match=why):
        load_config(medium, ".")
