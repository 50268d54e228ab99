"""A release is of committed sources, and all of it has one version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build_samples import git, need, repository, tree
from core_infra.build._artifact import host_target
from core_infra.build._compare import Side, first_difference
from core_infra.build._errors import ConfigError, PreflightError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from core_infra.build._release_rules import same_version
from core_infra.build._verify import verify_release
from core_infra.errors import InvalidError, UnavailableError, WrongStateError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from core_infra.build._plan import BuildPlan

HOST = host_target()
TASK = {
    "version": "3",
    "tasks": {"build": {"cmds": ['echo "{{.VERSION}}" > "{{.OUTPUT_DIR}}/app"']}},
}


def release(project: Path, *, snapshot: bool = False, version: str = "") -> BuildPlan:
    return make_plan(project, goal="release", snapshot=snapshot, version=version)


def test_uncommitted_changes_are_refused_or_said(tmp_path: Path) -> None:
    need("task")
    project = repository(tmp_path / "app", {"Taskfile.yml": json.dumps(TASK)}, "v1.2.0")
    (project / "ignored").touch()
    assert release(project).problems == ()
    (project / "new").touch()
    (project / "Taskfile.yml").write_text(json.dumps(TASK, indent=1))
    with pytest.raises(PreflightError, match=r"uncommitted changes: Taskfile\.yml, new"):
        carry_out(release(project))
    assert make_plan(project).problems == ()
    assert make_plan(project).context.version == "v1.2.0-dirty"

    package = carry_out(release(project, snapshot=True))

    commit = git(project, "rev-parse", "HEAD")
    version = f"v1.2.0-snapshot.{commit[:7]}.dirty"
    assert package.program().read_text() == f"{version}\n"
    assert json.loads((package.directory / "manifest.json").read_text())["version"] == version
    provenance = json.loads((package.directory / "provenance.intoto.json").read_text())
    parameters = provenance["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["snapshot"] is True
    assert parameters["uncommitted"] == ["Taskfile.yml", "new"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", '[project]\nname = "app"\nversion = "1.1"\n[build-system]\n'),
        ("pyproject.toml", '[tool.poetry]\nname = "app"\nversion = "1.1"\n'),
        ("Cargo.toml", '[package]\nname = "app"\nversion = "1.1.0"\n'),
        ("package.json", '{"name": "app", "version": "1.1.0", "scripts": {"build": "true"}}'),
        ("CMakeLists.txt", "project(app\n  LANGUAGES C\n  VERSION 1.1)\n"),
        ("composer.json", '{"name": "a/app", "version": "1.1.0"}'),
    ],
)
def test_a_tag_of_another_version_than_the_packages_is_refused(
    name: str, text: str, tmp_path: Path
) -> None:
    project = repository(tmp_path / "app", {name: text}, "v2.0")
    found = [one for one in release(project).problems if "but the release would be v2.0" in one]
    assert len(found) == 1
    assert "version 1.1" in found[0]
    git(project, "tag", "-d", "v2.0")
    plan = release(project)
    assert plan.context.version in {"1.1", "1.1.0"}
    assert not [one for one in plan.problems if "the release would be" in one]


def test_a_version_is_released_from_the_commit_of_its_tag_only(tmp_path: Path) -> None:
    text = '[project]\nname = "app"\nversion = "1.1"\n[build-system]\n'
    project = repository(tmp_path / "app", {"pyproject.toml": text}, "v1.1.0")
    after = "that of the tag, and there are commits after it"
    assert not [one for one in release(project).problems if after in one]
    git(project, "commit", "-q", "--allow-empty", "-m", "later")
    assert [one for one in release(project).problems if after in one]
    assert not [one for one in release(project, snapshot=True).problems if after in one]
    assert not [one for one in release(project, version="v1.1").problems if after in one]
    (project / "pyproject.toml").write_text(text.replace("1.1", "1.2"))
    git(project, "commit", "-qam", "1.2")
    assert not [one for one in release(project).problems if "version" in one]
    assert release(project).context.version == "1.2"
    assert release(project, snapshot=True).context.version.startswith("1.2-snapshot.")
    (refused,) = [
        one for one in release(project, version="v1.1.0-2-gabcdef0").problems if "version" in one
    ]
    assert "has version 1.2, but the release would be v1.1.0-2-gabcdef0" in refused


def test_a_wheel_with_a_version_that_its_backend_computes_is_looked_at(tmp_path: Path) -> None:
    need("-m build", "-m setuptools")
    files = {
        "setup.py": "from setuptools import setup\nsetup(name='app', version='1.1', packages=[])\n",
        ".core/build.yaml": "build: {flags: [--no-isolation, --wheel]}\n",
    }
    project = repository(tmp_path / "app", files, "v2.0")
    with pytest.raises(InvalidError, match=r"has version 1\.1, but the release would be v2\.0"):
        carry_out(release(project))
    assert not (project / "dist").exists()
    git(project, "tag", "v1.1")
    git(project, "tag", "-d", "v2.0")
    assert carry_out(release(project)).artifacts
    git(project, "commit", "-q", "--allow-empty", "-m", "later")
    with pytest.raises(InvalidError, match=r"has version 1\.1, that of the tag"):
        carry_out(release(project))
    (project / "setup.py").write_text(files["setup.py"].replace("1.1", "1.2"))
    git(project, "commit", "-qam", "1.2")
    with pytest.raises(InvalidError, match=r"1\.2, but the release would be v1\.1-2-g"):
        carry_out(release(project))
    (project / "setup.py").write_text(files["setup.py"].replace("1.1", "1.2.dev2+gabcdef0"))
    git(project, "commit", "-qam", "as a backend does")
    assert carry_out(release(project)).artifacts


def test_changes_that_git_was_told_to_ignore_are_uncommitted_all_the_same(tmp_path: Path) -> None:
    need("task")
    files = {"Taskfile.yml": json.dumps(TASK), "a b": "1", "é": "1", "kept": "1", "sparse": "1"}
    project = repository(tmp_path / "app", files, "v1.0.0")
    (project / "link").symlink_to("kept")
    git(project, "add", "link")
    git(project, "commit", "-q", "--amend", "-m", "one")
    git(project, "tag", "-f", "v1.0.0")
    git(project, "update-index", "--assume-unchanged", "a b", "é", "kept", "link")
    git(project, "update-index", "--skip-worktree", "Taskfile.yml", "sparse")
    (project / "sparse").unlink()
    assert not release(project).problems
    (project / "a b").write_text("2")
    (project / "é").unlink()
    (project / "Taskfile.yml").write_text(json.dumps(TASK, indent=1))
    (problem,) = release(project).problems
    assert all(name in problem for name in ("a b", "é", "Taskfile.yml"))
    assert "kept" not in problem


def test_changes_in_a_submodule_are_uncommitted_whatever_gitmodules_says(tmp_path: Path) -> None:
    need("task")
    inner = repository(tmp_path / "inner", {"a": "1"})
    project = repository(tmp_path / "app", {"Taskfile.yml": json.dumps(TASK)})
    add = ("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    git(project, *add)
    git(project, "config", "-f", ".gitmodules", "submodule.sub.ignore", "all")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "two")
    git(project, "tag", "v1.0.0")
    assert not release(project).problems
    (project / "sub" / "a").write_text("2")
    (problem,) = release(project).problems
    assert "uncommitted changes: sub" in problem


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("v1.0", "1.0.0", True),
        ("v2.0.0-rc.1", "2.0rc1", True),
        ("1.0-beta2", "1.0.0b2", True),
        ("1.0", "1.0.1", False),
        ("1.0", "1.0rc1", False),
        ("1.10", "1.1", False),
    ],
)
def test_versions_are_compared_as_versions(
    one: str,
    other: str,
    same: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    assert same_version(one, other) is same


def test_a_part_of_a_repository_has_tags_with_its_prefix(tmp_path: Path) -> None:
    yaml = "project: {tag_prefix: app-}\n"
    files = {"app/Taskfile.yml": json.dumps(TASK), "app/.core/build.yaml": yaml}
    project = repository(tmp_path / "all", files, "v9.0.0", "app-v1.0.0", "app-latest") / "app"
    plan = release(project)
    assert plan.context.version == "v1.0.0"
    (project / ".core" / "build.yaml").write_text("project: {tag_prefix: '-x'}\n")
    with pytest.raises(ConfigError, match="the start of a tag"):
        release(project)


def test_a_release_has_a_version(tmp_path: Path) -> None:
    need("task")
    project = repository(tmp_path / "app", {"Taskfile.yml": json.dumps(TASK)}, "nightly")
    with pytest.raises(PreflightError, match=r"no tag is a version(.|\n)*--version or --snapshot"):
        carry_out(release(project))
    assert not (project / "dist").exists()
    assert release(project, version="v1.0.0").problems == ()
    assert make_plan(project).problems == ()
    commit = git(project, "rev-parse", "HEAD")
    package = carry_out(release(project, snapshot=True))
    assert package.program().read_text() == f"0.0.0-snapshot.{commit[:7]}\n"


def test_a_shallow_clone_reports_what_is_missing(tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", {"Taskfile.yml": json.dumps(TASK)}, "v1.0.0")
    git(origin, "commit", "-q", "--allow-empty", "-m", "two")
    git(tmp_path, "clone", "-q", "--depth=1", origin.as_uri(), "clone")
    (problem,) = release(tmp_path / "clone").problems
    assert "git fetch --unshallow --tags" in problem
    assert make_plan(tmp_path / "clone").problems == ()


@pytest.mark.parametrize(
    ("origin", "uri"),
    [
        ("https://me:token@github.com/me/app.git", "git+https://github.com/me/app.git"),
        ("git@github.com:me/app.git", "git+ssh://github.com/me/app.git"),
        ("/srv/git/app.git", ""),
    ],
)
def test_the_provenance_names_builder_run_times_and_sources(
    origin: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("task")
    project = repository(tmp_path / "app", {"Taskfile.yml": json.dumps(TASK)}, "v1.0.0")
    git(project, "remote", "add", "origin", origin)
    variables = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "me/app",
        "GITHUB_WORKFLOW_REF": "me/app/.github/workflows/release.yml@refs/tags/v1.0.0",
        "GITHUB_RUN_ID": "7",
        "GITHUB_RUN_ATTEMPT": "2",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    first = carry_out(release(project)).directory
    first.rename(tmp_path / "first")
    monkeypatch.setenv("GITHUB_RUN_ID", "8")
    carry_out(release(project))

    statement = json.loads((tmp_path / "first" / "provenance.intoto.json").read_text())

    details = statement["predicate"]["runDetails"]
    workflow = "https://github.com/me/app/.github/workflows/release.yml@refs/tags/v1.0.0"
    assert details["builder"]["id"] == workflow
    run = "https://github.com/me/app/actions/runs/7/attempts/2"
    assert details["metadata"]["invocationId"] == run
    assert details["metadata"]["startedOn"] <= details["metadata"]["finishedOn"]
    assert details["metadata"]["startedOn"] > git(project, "log", "-1", "--format=%cI")[:4]
    _, commit = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    head = git(project, "rev-parse", "HEAD")
    expected = f"{uri}@refs/tags/v1.0.0" if uri else f"urn:core-infra:commit:{head}"
    assert commit == {"uri": expected, "digest": {"gitCommit": head}}
    # Two runs differ in the run only.
    medium = LocalMedium()
    sides = (Side(medium, str(tmp_path / "first")), Side(medium, str(first)))
    assert first_difference(*sides) is None


def test_files_of_another_version_are_not_released_with_it(tmp_path: Path) -> None:
    need("task")
    project = repository(tmp_path / "app", {"Taskfile.yml": json.dumps(TASK)}, "v1.0.0")
    (project / "dist").mkdir()
    (project / "dist" / "app-0.9.whl").touch()
    with pytest.raises(WrongStateError, match=r"not part of it: app-0\.9\.whl"):
        carry_out(release(project))
    assert [path.name for path in (project / "dist").iterdir()] == ["app-0.9.whl"]


def test_a_build_does_not_change_what_was_released(tmp_path: Path) -> None:
    need("-m build", "-m setuptools")
    files = {
        "setup.py": "from setuptools import setup\nsetup(name='app', version='1.0', packages=[])\n",
        ".core/build.yaml": "build: {flags: [--no-isolation, --wheel]}\n",
    }
    project = repository(tmp_path / "app", files, "v1.0")
    package = carry_out(release(project))
    (project / "setup.py").write_text(files["setup.py"].replace("[]", "[], description='x'"))
    with pytest.raises(WrongStateError, match="is part of the release there"):
        carry_out(make_plan(project))
    verify_release(LocalMedium(), str(package.directory))


def test_a_release_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("task")
    project = repository(tmp_path / "app", {"Taskfile.yml": json.dumps(TASK)}, "v1.0.0")
    package = carry_out(release(project))
    before = tree(package.directory)
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target.name == "sbom.cdx.json" and path.parent.name == "out":
            raise PermissionError(1, "Operation not permitted", str(target))  # chattr +i
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UnavailableError, match="Operation not permitted"):
        carry_out(release(project, version="v1.1.0"))
    assert tree(package.directory) == before
    verify_release(LocalMedium(), str(package.directory))


def test_names_that_windows_cannot_have_are_refused(tmp_path: Path) -> None:
    project = tmp_path / "aux"
    (project / ".core").mkdir(parents=True)
    (project / "Taskfile.yml").write_text(json.dumps(TASK))
    assert make_plan(project, targets=[HOST]).problems == ()
    windows = type(HOST)("windows", "amd64")
    assert any("Windows cannot" in one for one in make_plan(project, targets=[windows]).problems)
    (project / ".core" / "build.yaml").write_text("project: {name: con.txt}\n")
    with pytest.raises(ConfigError, match="not the name of a device"):
        make_plan(project)
    (project / ".core" / "build.yaml").rename(project / ".core" / "build.yml")
    assert any("build.yml is not read" in note for note in make_plan(project).notes)
