"""``core-infra jobs``, as a program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from core_infra._cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
journal: journal
poll_interval: 600
sources:
  - {type: directory, path: signals}
handlers:
  - {type: dispatch, queue: queue}
  - {type: command, name: greet, command: [sh, -c, "echo hi >> out"], when: {pr_state: OPEN}}
  - {type: command, name: sulk, command: ["false"], when: {pr_state: CLOSED}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "jobs.yaml").write_text(CONFIG)
    (tmp_path / "signals").mkdir()
    put(tmp_path, pr_state="OPEN")
    return tmp_path


def put(here: Path, **fields: object) -> None:
    item = {"repo_owner": "acme", "repo_name": "widgets", "pr_number": 5, "forge": "github.com"}
    (here / "signals" / "a.json").write_text(json.dumps({**item, **fields}))


def command(*args: str) -> list[str]:
    main = "import sys; from core_infra._cli.main import main; main(prog_name='core-infra')"
    return [sys.executable, "-c", main, "jobs", "--config", "jobs.yaml", *args]


def jobs(here: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        command(*args), cwd=here, capture_output=True, text=True, check=False, env=env
    )


def test_a_dry_run_lists_actions_and_does_nothing(here: Path) -> None:
    done = jobs(here, "dry-run")
    assert done.returncode == 0
    assert "would: run sh -c 'echo hi >> out' for acme/widgets" in done.stdout
    assert not (here / "out").exists()


def test_once_acts_once(here: Path) -> None:
    for actions in ("1 action", "0 actions"):
        done = jobs(here, "once")
        assert done.returncode == 0, done.stderr
        assert f"1 signal, {actions}" in done.stdout
    assert (here / "out").read_text() == "hi\n"
    listed = jobs(here, "journal")
    assert "acme/widgets#5" in listed.stdout
    assert jobs(here, "journal", "--failed").stdout.count("greet") == 0


def test_a_failure_is_an_exit_code_and_is_listed(here: Path) -> None:
    put(here, pr_state="CLOSED")
    assert jobs(here, "once").returncode == 1
    assert "sulk" in jobs(here, "journal", "--failed").stdout


def test_verify_finds_a_changed_line(here: Path) -> None:
    jobs(here, "once")
    done = jobs(here, "verify", "--reindex")
    assert (done.returncode, done.stdout) == (0, "2 lines in 1 file, 0 files changed\n")
    (file,) = (here / "journal").rglob("*.jsonl")
    file.write_text(file.read_text().replace('"success":true', '"success":false'))
    done = jobs(here, "verify")
    assert done.returncode == 1
    assert "line 2: changed" in done.stdout


def test_replay_shows_other_decisions(here: Path) -> None:
    jobs(here, "once")
    assert "0 of 1 decision would differ" in jobs(here, "replay").stdout
    (here / "jobs.yaml").write_text(CONFIG.replace("pr_state: OPEN", "pr_state: MERGED"))
    done = jobs(here, "replay")
    assert "1 of 1 decision would differ" in done.stdout
    assert "greet" in done.stdout


def test_the_report_is_a_page(here: Path) -> None:
    jobs(here, "once")
    assert jobs(here, "report", "-o", "page.html").stdout == "page.html\n"
    text = (here / "page.html").read_text()
    assert '<a href="https://github.com/acme/widgets/issues/5"' in text
    assert "every chain holds" in text


def test_prune_deletes_old_files(here: Path) -> None:
    jobs(here, "once")
    assert jobs(here, "prune", "2020-01-01").stdout == ""
    (file,) = (here / "journal").rglob("*.jsonl")
    file.rename(file.with_name("2020-01-01.jsonl"))
    assert jobs(here, "prune", "2020-01-02").stdout.count(".jsonl") == 1
    assert "1 signal, 0 actions" in jobs(here, "once").stdout


def test_a_journal_can_be_looked_at_without_a_file(here: Path) -> None:
    jobs(here, "once")
    (here / "jobs.yaml").unlink()
    assert "greet" in jobs(here, "--journal", "journal", "journal").stdout


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        (None, 3, "there is no jobs.yaml"),
        ("a: [", 5, "cannot use jobs.yaml: jobs.yaml:1: invalid YAML"),
        ("workers: 0", 5, "jobs.yaml:1: workers: expected a whole number of at least 1, found"),
        ("sources: [{type: odd}]", 5, "sources[0].type: expected one of directory"),
        ("colour: red", 5, "jobs.yaml:1: colour: unknown field"),
        ("sources: [{type: forgejo, repos: [a/b]}]", 5, "sources[0].url: missing field"),
        ("sources: [{type: github, repos: [ab]}]", 5, "repos[0]: expected OWNER/NAME"),
        (
            "handlers: [{type: command, name: x, command: ['true'], when: {z: 1}}]",
            5,
            "when.z: unknown field",
        ),
    ],
)
def test_a_bad_file_is_one_clear_error(
    here: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, code: int, told: str
) -> None:
    monkeypatch.chdir(here)
    if text is None:
        (here / "jobs.yaml").unlink()
    else:
        (here / "jobs.yaml").write_text(text)
    done = CliRunner().invoke(main, ["jobs", "--config", "jobs.yaml", "once"])
    assert done.exit_code == code, done.output
    assert told in done.stderr


def test_run_continues_until_it_is_stopped(here: Path) -> None:
    with subprocess.Popen(
        command("--log-format", "json", "run"), cwd=here, stderr=subprocess.PIPE, text=True
    ) as poller:
        assert poller.stderr is not None
        lines = []
        for line in poller.stderr:
            lines.append(json.loads(line))
            if lines[-1]["message"].startswith("cycle 1"):
                break
        other = jobs(here, "once")
        poller.send_signal(signal.SIGTERM)
        assert poller.wait(30) == 0
    assert other.returncode == 6
    assert "another poller does" in other.stderr
    done = next(line for line in lines if line["message"] == "greet: done")
    assert (done["action"], done["repo"], done["pr"]) == ("greet", "acme/widgets", 5)


def test_metrics_are_served(here: Path) -> None:
    # Port 0 is any free one, and the log tells which.
    with subprocess.Popen(
        command("run", "--metrics-port", "0"), cwd=here, stderr=subprocess.PIPE, text=True
    ) as poller:
        assert poller.stderr is not None
        url = ""
        for line in poller.stderr:
            if "metrics at " in line:
                url = line.rpartition("metrics at ")[2].strip()
            if "cycle 1" in line:
                break
        with urlopen(url, timeout=30) as answer:  # noqa: S310 - our own
            text = answer.read().decode()
        poller.send_signal(signal.SIGINT)
        assert poller.wait(30) == 0
    assert 'core_infra_jobs_actions_total{action="greet",outcome="done"} 1.0' in text
    assert 'core_infra_jobs_polls_total{outcome="done",source="directory"} 1.0' in text
    assert "core_infra_jobs_cycle_seconds_count 1.0" in text


def test_a_command_does_not_inherit_secrets(here: Path) -> None:
    text = CONFIG.replace("echo hi >> out", "echo $CI_TOKEN:$DB_PASSWORD:$PLAIN > out")
    text = text.replace("when: {pr_state: OPEN}", "env: [DB_PASSWORD], when: {pr_state: OPEN}")
    (here / "jobs.yaml").write_text(text)
    env = {**os.environ, "CI_TOKEN": "a", "DB_PASSWORD": "b", "PLAIN": "c"}
    subprocess.run(command("once"), cwd=here, env=env, check=True, capture_output=True)
    assert (here / "out").read_text() == ":b:c\n"
    for path in (here / "journal").rglob("*"):
        assert path.is_dir() or path.name == ".leader.lock" or path.stat().st_mode & 0o077 == 0


def test_it_is_reloaded_and_watched_from_outside(here: Path) -> None:
    with subprocess.Popen(
        command("run", "--listen", "127.0.0.1:0"), cwd=here, stderr=subprocess.PIPE, text=True
    ) as bot:
        assert bot.stderr is not None
        lines = iter(bot.stderr.readline, "")
        url = next(line for line in lines if "metrics at " in line).split()[-1]
        wait_for(lines, "cycle 1:")
        with urlopen(url.replace("metrics", "health"), timeout=30) as answer:  # noqa: S310 - ours
            assert json.load(answer)["problems"] == []
        (here / "jobs.yaml").write_text("sources: [")
        wait_for(lines, "the configuration is not used")
        (here / "jobs.yaml").write_text(CONFIG.replace("echo hi", "echo there"))
        put(here, pr_state="OPEN", pr_number=6)
        wait_for(lines, "was read again")
        wait_for(lines, "greet: done")
        assert (here / "out").read_text() == "hi\nthere\n"
        put(here, pr_state="OPEN", pr_number=7)
        bot.send_signal(signal.SIGHUP)
        wait_for(lines, "greet: done")
        bot.send_signal(signal.SIGTERM)
        assert bot.wait(30) == 0


def wait_for(lines: Iterator[str], text: str) -> None:
    assert any(text in line for line in lines), text


def test_what_failed_is_tried_again_by_a_command(here: Path) -> None:
    put(here, pr_state="CLOSED")
    assert jobs(here, "once").returncode == 1
    assert "0 actions" in jobs(here, "once").stdout
    done = jobs(here, "retry", "acme/widgets#5")
    assert "sulk acme/widgets#5 will be tried again (it was failed)" in done.stdout
    assert "1 action" in jobs(here, "once").stdout
    assert "is recorded as done" in jobs(here, "resolve", "acme/widgets#5").stdout
    assert jobs(here, "retry", "acme/widgets#5").returncode != 0
    assert "is forgotten" in jobs(here, "forget", "acme/widgets#5").stdout
    assert "1 action" in jobs(here, "once").stdout
