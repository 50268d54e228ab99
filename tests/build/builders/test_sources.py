"""Which files are a project's sources, and the copy that tools may write in."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from build_samples import need
from core_infra.build._builders.environment import redact
from core_infra.build._sources.sources import find_sources

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def git(project: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    allow = ["-c", "protocol.file.allow=always"]
    subprocess.run(["git", *who, *allow, *words], cwd=project, check=True, capture_output=True)


def lay(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_in_a_work_tree_these_are_the_files_that_git_does_not_ignore(tmp_path: Path) -> None:
    need("git")
    project = lay(tmp_path / "app", "a", "ä\nb", "gone", "build/x", "dist/y", ".env", "new")
    other = lay(tmp_path / "other", "inner")
    for repository in (project, other):
        git(repository, "init")
    (project / ".gitignore").write_text("build\n.env\n")
    for words in (["add", "inner"], ["commit", "-m", "one"]):
        git(other, *words)
    git(project, "submodule", "add", str(other), "sub")
    git(project, "add", "a", "ä\nb", "gone")
    (project / "gone").unlink()

    found = find_sources(project, project / "dist")

    assert list(found.files) == sorted(
        [".gitignore", ".gitmodules", "a", "new", "sub/inner", "ä\nb"]
    )


def test_elsewhere_these_are_all_but_what_developers_tools_leave(tmp_path: Path) -> None:
    names = ["a", "node_modules/x/y", "src/__pycache__/z", "src/b", ".venv/c", "dist/d"]
    project = lay(tmp_path, *names)
    (project / "link").symlink_to("nowhere")
    (project / "directory").symlink_to("src")
    os.mkfifo(project / "pipe")
    found = find_sources(project, project / "dist").files
    assert list(found) == ["a", "directory", "link", "src/b"]


def test_a_copy_does_not_depend_on_the_user(tmp_path: Path) -> None:
    project = lay(tmp_path / "app", "a", "bin/run")
    (project / "bin" / "run").chmod(0o700)
    (project / "a").chmod(0o664)
    (project / "link").symlink_to("a")
    before = os.umask(0o077)
    try:
        find_sources(project, project / "dist").copy(tmp_path / "copy", 1_000_000_000)
    finally:
        os.umask(before)
    stats = {path.name: path.lstat() for path in (tmp_path / "copy").rglob("*")}
    modes = {name: f"{stat.st_mode & 0o777:o}" for name, stat in stats.items()}
    assert modes == {"a": "644", "bin": "755", "run": "755", "link": "777"}
    assert {stats[name].st_mtime for name in ("a", "run", "link")} == {1_000_000_000}
    assert (tmp_path / "copy" / "link").readlink().name == "a"


def test_a_copy_knows_the_history_and_does_not_change_it(tmp_path: Path) -> None:
    need("git")
    project = lay(tmp_path / "app", "a")
    for words in (["init"], ["add", "a"], ["commit", "-m", "one"], ["tag", "v7"]):
        git(project, *words)
    index = (project / ".git" / "index").read_bytes()
    find_sources(project, project / "dist").copy(tmp_path / "copy", 0)
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    said = subprocess.run(
        ["git", "describe", "--tags", "--dirty"],
        cwd=tmp_path / "copy",
        env=env,
        check=True,
        capture_output=True,
    )
    assert said.stdout == b"v7\n"
    assert (project / ".git" / "index").read_bytes() == index


def test_a_digest_tells_names_modes_and_content(tmp_path: Path) -> None:
    project = lay(tmp_path, "a", "b")
    seen = {find_sources(project).digest}
    (project / "a").chmod(0o755)
    seen.add(find_sources(project).digest)
    (project / "a").write_text("b")
    seen.add(find_sources(project).digest)
    (project / "a").rename(project / "c")
    seen.add(find_sources(project).digest)
    assert len(seen) == 4
    os.utime(project / "c", (1, 1))
    assert find_sources(project).digest in seen


def test_what_secret_variables_hold_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_TOKEN", "abcdef123")
    monkeypatch.setenv("DEPLOY_PASSWORD", "abcdef")
    monkeypatch.setenv("SHORT_SECRET", "a")
    assert redact("abcdef123 abcdef a", {"MY_API_KEY": "unseen"}) == "*** *** a"
    assert redact("it is unseen", {"MY_API_KEY": "unseen"}) == "it is ***"
