"""``core-infra jobs``: configuration files, and what is reported about a cycle."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from core_infra._cli.main import main
from core_infra.jobrunner import Journal
from core_infra.jobrunner._config.load import load_jobs_config
from jobs.samples import intent, signal

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

CONFIG = """
journal: journal
sources:
  - {type: directory, path: signals}
handlers:
  - {type: command, name: greet, command: [sh, -c, "echo hi >> out"], when: {pr_state: OPEN}}
"""
FORGES = """
sources:
  - {type: github, repos: [a/b], handlers: [settle_reviews]}
  - {type: forgejo, url: "http://127.0.0.1:1", repos: [a/b], handlers: [tick_parent]}
dry_run_handlers: [settle_reviews]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "jobs.yaml").write_text(CONFIG)
    (tmp_path / "signals").mkdir()
    put(tmp_path, "good")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def put(here: Path, name: str, **fields: Any) -> None:
    (here / "signals" / f"{name}.json").write_text(json.dumps(signal(**fields).to_dict()))


def jobs(*args: str) -> Result:
    return CliRunner().invoke(main, ["jobs", "--config", "jobs.yaml", *args])


def out(here: Path) -> int:
    """How often the handler has acted."""
    file = here / "out"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.mark.parametrize("name", ["run", "once", "dry-run", "journal", "replay", "verify", "prune"])
def test_help_needs_no_file(here: Path, name: str) -> None:
    (here / "jobs.yaml").unlink()
    done = jobs(name, "--help")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"jobs {name} [OPTIONS]" in done.stdout


def test_the_help_of_prune_shows_that_it_needs_a_date(here: Path) -> None:
    assert here.exists()
    assert "prune [OPTIONS] YYYY-MM-DD\n" in jobs("prune", "--help").stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the configuration has no sources and no handlers"),
        ("handlers: [{type: command, name: x, command: ['true'], when: {}}]", "has no sources"),
        ("sources: [{type: directory, path: x}]", "the configuration has no handlers"),
        ("- 1", "cannot use jobs.yaml: jobs.yaml:1: expected a mapping, found a list"),
        ("[" * 20_000, "jobs.yaml:1: it is nested more than 32 levels deep"),
        ("a: 1\nb: 2\na: 3", "jobs.yaml:3: a: duplicate field; it is first on line 1"),
        ("sources: [{path: a, path: b}]", "jobs.yaml:1: sources[0].path: duplicate field"),
        ("since: 2026-13-45", "jobs.yaml:1: since: unknown field"),
        ("journal: 2026-13-45", "jobs.yaml:1: journal: expected a string, found a date: '2026-"),
        ("poll_interval: true", "poll_interval: expected a number of seconds above 0"),
        ("poll_interval: .inf", "poll_interval: expected a number of seconds above 0"),
        ("poll_timeout: .nan", "poll_timeout: expected a number of seconds above 0"),
        ("job_timeout: 1.0e+300", "job_timeout: expected a number of seconds above 0 and at most"),
        ("workers: true", "workers: expected a whole number of at least 1, found a boolean"),
        (FORGES.replace("http://127.0.0.1:1", "git.example.org"), "sources[1].url: 'git.ex"),
        (FORGES.replace("http://127.0.0.1:1", "ftp://x"), "is not the address of a forge. Give"),
        (FORGES.replace("http://127.0.0.1:1", ""), "is not the address of a forge"),
        (FORGES, "there is no handler 'settle_reviews': dry_run_handlers"),
        (FORGES, "The handlers are: resolve_threads@github.com, tick_parent@127.0.0.1."),
        (f"{CONFIG}dry_run_handlers: [greeet]", "The handlers are: greet."),
        (CONFIG.replace("OPEN", "open"), "expected '', 'OPEN', 'MERGED' or 'CLOSED', found"),
        (
            CONFIG.replace("pr_state: OPEN", "pr_number: many"),
            "handlers[0].when.pr_number: expected a valid integer",
        ),
        (
            CONFIG.replace("name: greet", "name: a/b"),
            "handlers[0].name: cannot add a handler whose name is 'a/b'",
        ),
    ],
)
def test_a_file_that_cannot_be_meant_is_one_clear_error(here: Path, text: str, told: str) -> None:
    (here / "jobs.yaml").write_text(text)
    done = jobs("once")
    assert told in done.stderr
    assert done.exit_code == 5
    assert out(here) == 0


def test_all_mistakes_are_reported_at_once(here: Path) -> None:
    (here / "jobs.yaml").write_text(
        "worker: 3\npoll_interval: soon\nsources:\n  - {type: github, repos: [a, b/c], labels: x}\n"
        "  - {type: forgejo, repos: []}\n  - {type: directry}\nhandlers:\n"
        "  - {type: command, name: 5, when: {pr_stat: OPEN, is_draft: 1}}\n  - {type: dispatch}\n"
    )
    done = jobs("once")
    assert done.exit_code == 5
    lines = done.stderr.splitlines()
    assert "cannot use jobs.yaml: 12 mistakes" in lines[0]
    assert [line.split(": ")[:2] for line in lines[1:]] == [
        ["  jobs.yaml:1", "worker"],
        ["  jobs.yaml:2", "poll_interval"],
        ["  jobs.yaml:4", "sources[0].repos[0]"],
        ["  jobs.yaml:4", "sources[0].labels"],
        ["  jobs.yaml:5", "sources[1].url"],
        ["  jobs.yaml:5", "sources[1].repos"],
        ["  jobs.yaml:6", "sources[2].type"],
        ["  jobs.yaml:8", "handlers[0].command"],
        ["  jobs.yaml:8", "handlers[0].name"],
        ["  jobs.yaml:8", "handlers[0].when.pr_stat"],
        ["  jobs.yaml:8", "handlers[0].when.is_draft"],
        ["  jobs.yaml:9", "handlers[1].queue"],
    ]
    assert "worker: unknown field; did you mean 'workers'?" in lines[1]


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("workers: 0x10", "workers", 16),
        ("poll_interval: 1:30", "poll_interval", 90),
        ("dry_run: 'Yes'", "dry_run", True),
        ("dry_run: 0", "dry_run", False),
        ("<<: {attempts: 2}", "attempts", 2),
    ],
)
def test_what_yaml_takes_for_numbers_and_flags(
    here: Path, text: str, field: str, value: object
) -> None:
    (here / "jobs.yaml").write_text(text)
    assert getattr(load_jobs_config(str(here / "jobs.yaml")), field) == value


@pytest.mark.parametrize("text", [FORGES, f"{FORGES}bad: [", f"{FORGES}bad: 1"])
def test_a_password_is_not_repeated(here: Path, text: str) -> None:
    (here / "jobs.yaml").write_text(text.replace("http://127", "http://u:secretpw@127"))
    done = jobs("once")
    assert done.exit_code == 5
    assert "secretpw" not in done.stderr
    if "[" not in text[len(FORGES) :]:
        assert "token_env" in done.stderr


def test_a_directory_instead_of_a_file_is_an_error(here: Path) -> None:
    (here / "jobs.yaml").unlink()
    (here / "jobs.yaml").mkdir()
    done = jobs("once")
    assert done.exit_code == 5
    assert "cannot read jobs.yaml: Is a directory" in done.stderr


def test_a_signal_without_a_repository_costs_only_a_line(here: Path) -> None:
    put(here, "bad", repo_owner="")
    done = jobs("once")
    assert done.exit_code == 0
    assert "acme/widgets#5" in done.stdout
    assert "1 signal, 1 action" in done.stdout
    assert "signal 1 of 'signals/bad.json': repo_owner is empty" in done.stderr
    assert out(here) == 1


def test_a_source_that_fails_is_reported_once(here: Path) -> None:
    (here / "jobs.yaml").write_text(CONFIG.replace("path: signals", "path: none"))
    done = jobs("once")
    assert done.exit_code == 1
    assert len(re.findall("source directory: ", done.stderr)) == 1


def test_a_dry_run_names_the_item_and_cuts_nothing_off(here: Path) -> None:
    name = "x" * 300
    (here / "jobs.yaml").write_text(CONFIG.replace(">> out", f">> {name}"))
    shown = jobs("dry-run").stdout
    assert re.search(rf"greet +acme/widgets#5 +would: .*{name}", shown)


def test_an_unreadable_line_stops_no_command(here: Path) -> None:
    jobs("once")
    (file,) = (here / "journal").rglob("*.jsonl")
    with file.open("a") as lines:
        lines.write("[" * 100_000 + "\n")
    for args in (["once"], ["journal"], ["report"], ["replay"]):
        done = jobs(*args)
        assert done.exit_code == 0, done.exception
    done = jobs("verify", "--reindex")
    assert done.exit_code == 1
    assert "line 3: changed" in done.stdout
    assert jobs("once").exit_code == 0
    assert out(here) == 1


def test_what_was_done_stays_done_after_pruning(here: Path) -> None:
    """Also with an index made anew: by the command, or as it was lost."""
    jobs("once")
    (file,) = (here / "journal").rglob("*.jsonl")
    file.rename(file.with_name("2020-01-01.jsonl"))
    assert jobs("prune", "2020-01-02").stdout == "acme/widgets/2020-01-01.jsonl\n"
    assert "1 signal, 0 actions" in jobs("once").stdout
    assert jobs("verify", "--reindex").exit_code == 0
    assert "1 signal, 0 actions" in jobs("once").stdout
    (here / "journal" / ".index.sqlite3").unlink()
    assert "1 signal, 0 actions" in jobs("once").stdout
    assert out(here) == 1


def test_what_is_still_to_come_is_not_pruned(here: Path) -> None:
    jobs("once")
    now = datetime.now(UTC)
    done = jobs("prune", f"{now + timedelta(days=2):%Y-%m-%d}")
    assert done.exit_code == 5
    assert "in the future" in done.stderr
    assert jobs("prune", f"{now:%Y-%m-%d}").exit_code == 0
    assert len(list((here / "journal").rglob("*.jsonl"))) == 1


def test_replay_shows_what_other_handlers_would_decide(here: Path) -> None:
    put(here, "closed", child_number=6, pr_number=7, pr_state="OPEN", is_draft=True)
    assert jobs("once").exit_code == 0
    same = jobs("replay")
    assert same.output.splitlines()[-1] == "0 of 2 decisions would differ"
    (here / "jobs.yaml").write_text(CONFIG.replace("OPEN}", "OPEN, is_draft: false}"))
    other = jobs("replay")
    assert other.output.splitlines()[-1] == "1 of 2 decisions would differ"
    assert re.search(r"acme/widgets#7 +greet +-", other.output)
    assert "#5" not in other.output
    assert "#5" in jobs("replay", "--all").output
    assert out(here) == 2  # nothing was done again


def test_a_signal_of_a_later_version_does_not_end_a_replay(here: Path) -> None:
    assert jobs("once").exit_code == 0
    with Journal(here / "journal") as journal:
        later = {**signal().to_dict(), "from_the_future": 1}
        journal.write([intent(9, signal=later), intent(10, signal=None)])
    replayed = jobs("replay")
    assert replayed.exit_code == 0
    assert replayed.output.splitlines()[-1] == "0 of 1 decision would differ"
    assert "there is no field from_the_future" in replayed.output
