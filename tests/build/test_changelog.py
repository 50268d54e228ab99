"""The notes of a release: a section of the changelog, or the commits since the last version."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from build_samples import need
from core_infra.build._changelog import grouped, release_notes, section_of
from core_infra.build._errors import ArtifactMissingError
from core_infra.build._preflight import make_plan

if TYPE_CHECKING:
    from pathlib import Path

KEEP = """\
# Changelog

## [Unreleased]

- later

## [1.2.3] - 2026-01-02

### Added

- this
```
## 1.2.2 is no heading here
```

## [1.2.2] - 2026-01-01

- that
"""
UNDERLINED = """\
History
=======

v2.0.0rc1 (2026-01-02)
----------------------

- **new**

1.9
---

- old
"""


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        (KEEP, "v1.2.3", "### Added\n\n- this\n```\n## 1.2.2 is no heading here\n```"),
        (KEEP, "1.2.2", "- that"),
        (KEEP, "1.2", None),
        (UNDERLINED, "v2.0.0-rc.1", "- **new**"),
        (UNDERLINED, "v1.9.0", "- old"),
        ("## app 1.0\n## app 0.9\n", "1.0", ""),
        ("", "1.0", None),
    ],
)
def test_the_section_of_a_version(text: str, version: str, expected: str | None) -> None:
    assert section_of(text, version) == expected


def test_conventional_commits_are_grouped() -> None:
    commits = [
        ("fix(cli): exit with 2", ""),
        ("feat!: drop it", ""),
        ("chore: tidy", ""),
        ("refactor: x", "why\n\nBREAKING CHANGE: y is gone"),
        ("Say hello", ""),
        ("feat: greet", ""),
    ]
    assert grouped(commits) == (
        "### Breaking changes\n\n- drop it\n- x\n\n### Features\n\n- greet\n\n"
        "### Fixes\n\n- **cli:** exit with 2\n\n### Other changes\n\n- Say hello"
    )
    assert grouped([("Say hello", ""), ("note: this", "")]) == "- Say hello\n- note: this"
    assert grouped([]) == ""


def git(directory: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *who, *words], cwd=directory, check=True, capture_output=True)


def test_commits_since_the_last_version_of_this_part(tmp_path: Path) -> None:
    need("git")
    part = tmp_path / "apps" / "hello"
    (part / ".core").mkdir(parents=True)
    (part / "Taskfile.yml").write_text("version: '3'\ntasks: {build: {cmds: ['true']}}\n")
    git(tmp_path, "init", "-q")

    def commit(subject: str, file: str, *tags: str) -> None:
        (tmp_path / file).write_text(subject)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", subject)
        for tag in tags:
            git(tmp_path, "tag", tag)

    commit("one", "apps/hello/a", "apps/hello/v1.0.0")
    commit("two", "apps/hello/a", "apps/hello/v1.1.0-rc.1")
    commit("elsewhere", "b", "v7.0.0")
    commit("three", "apps/hello/a", "nightly")
    commit("four", "apps/hello/c", "apps/hello/v1.1.0")
    assert release_notes(make_plan(part, goal="release")) == "- four\n- three\n- two"
    commit("five", "apps/hello/c", "apps/hello/v1.2.0-rc.1")
    assert release_notes(make_plan(part, goal="release")) == "- five"

    (part / "CHANGELOG.md").write_text("# 1.2.0-rc.1\nwritten\n")
    plan = make_plan(part, goal="release")
    assert release_notes(plan) == "written"
    (part / ".core" / "build.yaml").write_text("changelog: {from: file, file: NEWS.md}\n")
    with pytest.raises(ArtifactMissingError, match=r"NEWS\.md has no section of v1\.2\.0-rc\.1"):
        release_notes(make_plan(part, goal="release"))
