"""Which package manager builds a Node project, and which folder is shipped."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build_samples import need, tree
from core_infra.build._builders.registry import BUILDERS
from core_infra.build._errors import ArtifactMissingError, ConfigError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from core_infra.build._project import ProjectType

if TYPE_CHECKING:
    from core_infra.build._plan import BuildPlan


def package(directory: Path, build: str = "true", **fields: object) -> Path:
    directory.mkdir(exist_ok=True)
    content = {"name": "app", "scripts": {"build": build}, **fields}
    (directory / "package.json").write_text(json.dumps(content))
    return directory


def words(plan: BuildPlan) -> list[str]:
    return [" ".join(command.argv) for step in plan.steps for command in step.commands]


@pytest.mark.parametrize(
    ("manager", "locks", "install", "build"),
    [
        (None, [], "npm install", "npm run build"),
        (None, ["package-lock.json"], "npm ci", "npm run build"),
        (None, ["pnpm-lock.yaml", "package-lock.json"], "pnpm install --frozen", "pnpm run build"),
        (None, ["yarn.lock"], "yarn install --frozen-lockfile", "yarn run build"),
        ("yarn@4.1.0", ["yarn.lock"], "yarn install --immutable", "yarn run build"),
        ("yarn@1.22.22", ["yarn.lock"], "yarn install --frozen-lockfile", "yarn run build"),
        (None, ["bun.lockb"], "bun install --frozen-lockfile", "bun run build"),
        ("pnpm@9.0.0", ["package-lock.json"], "pnpm install --no-frozen", "pnpm run build"),
        ("unheard-of@1", ["yarn.lock"], "yarn install", "yarn run build"),
    ],
)
def test_the_field_chooses_the_package_manager_else_the_lock_file(
    manager: str | None, locks: list[str], install: str, build: str, tmp_path: Path
) -> None:
    project = package(tmp_path, **({"packageManager": manager} if manager else {}))
    for lock in locks:
        (project / lock).touch()
    first, second = make_plan(project).steps[0].commands
    assert " ".join(first.argv).startswith(install)
    assert " ".join(second.argv) == build


def test_flags_of_the_project_reach_the_script(tmp_path: Path) -> None:
    project = package(tmp_path)
    (project / ".core").mkdir()
    (project / ".core/build.yaml").write_text("build: {flags: [--mode=staging]}\n")
    assert make_plan(project).steps[0].commands[1].argv[-2:] == ("--", "--mode=staging")


def test_the_folder_that_the_script_fills_is_shipped(tmp_path: Path) -> None:
    need("node", "npm")
    # "build" is a folder of sources here.
    for build, file in (
        ("mkdir out; echo out > out/index.html", "out\n"),
        ('mkdir -p $OUTPUT_DIR dist; echo told > "$OUTPUT_DIR/index.html"; touch dist/x', "told\n"),
    ):
        project = package(tmp_path / file.strip(), build)
        (project / "build").mkdir()
        (project / "build" / "webpack.js").touch()
        made = carry_out(make_plan(project)).program()
        assert tree(made) == {"index.html": file.encode()}


def test_a_library_is_what_npm_would_publish(tmp_path: Path) -> None:
    need("node", "npm")
    build = "mkdir -p lib/es; touch lib/es/a.mjs lib/a.js app.min.js other.js"
    project = package(tmp_path, build, files=["./lib/", "lib/es", "*.min.js", "!x", 3, "**a"])
    made = tree(carry_out(make_plan(project)).program())
    assert sorted(made) == ["app.min.js", "lib/a.js", "lib/es/a.mjs", "package.json"]


@pytest.mark.parametrize("files", [["../../.."], ["/"], ["missing"], "lib", {"lib": 1}])
def test_what_a_library_does_not_have_is_not_published(files: object, tmp_path: Path) -> None:
    need("node", "npm")
    with pytest.raises(ArtifactMissingError, match="made no artifacts"):
        carry_out(make_plan(package(tmp_path, files=files)))


@pytest.mark.parametrize("git", [False, True])
def test_modules_that_came_with_the_sources_are_used_as_they_are(
    git: bool,  # noqa: FBT001 - pytest gives it
    tmp_path: Path,
) -> None:
    need("node", "npm", "git")
    build = "mkdir dist; node -p \"require('left')\" > dist/x"
    project = package(tmp_path, build, dependencies={"left": "^1.0.0"})
    (project / "package-lock.json").write_text("{}")
    module = project / "node_modules/left/index.js"
    module.parent.mkdir(parents=True)
    module.write_text("module.exports = 'vendored'")
    if git:
        subprocess.run(["git", "init", "-q"], cwd=project, check=True)
        (project / ".gitignore").write_text("node_modules\n")
        assert words(make_plan(project))[0].startswith("npm ci")
        subprocess.run(["git", "add", "-f", "."], cwd=project, check=True)
    plan = make_plan(project)
    assert words(plan) == ["npm run build"]
    assert tree(carry_out(plan, twice=not git).program()) == {"x": b"vendored\n"}


def test_a_script_without_artifacts_is_reported(tmp_path: Path) -> None:
    need("node", "npm")
    with pytest.raises(ArtifactMissingError, match="OUTPUT_DIR"):
        carry_out(make_plan(package(tmp_path)))
    assert not (tmp_path / "dist").exists()


def test_a_package_without_the_script_cannot_be_built(tmp_path: Path) -> None:
    project = package(tmp_path, scripts={"start": "x"})
    assert any("no script 'build'" in problem for problem in make_plan(project).problems)


@pytest.mark.parametrize("text", ["{", "[]", "\xff", '{"a": ' * 100_000])
def test_a_malformed_package_is_one_error_with_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(text, "latin-1")
    with pytest.raises(ConfigError, match=r"package\.json"):
        make_plan(tmp_path)


@pytest.mark.parametrize(
    "fields", [{"scripts": "x"}, {"packageManager": 3}, {"name": ["x"]}, {"scripts": {"build": 1}}]
)
def test_fields_of_a_wrong_type_do_no_harm(fields: dict[str, object], tmp_path: Path) -> None:
    project = package(tmp_path / "app", "true", **fields)
    plan = make_plan(project)
    assert plan.builder is BUILDERS[ProjectType.NODE]
    assert plan.context.name == "app"


def workspace(top: Path, member: dict[str, object], **fields: object) -> Path:
    """A workspace with a member in plain JavaScript, whose directory is returned."""
    inner = top / "packages/app"
    inner.mkdir(parents=True)
    content = {"private": True, "workspaces": ["packages/*"], **fields}
    (top / "package.json").write_text(json.dumps(content))
    (inner / "package.json").write_text(
        json.dumps({"name": "@a/app", "version": "1.0.0", **member})
    )
    (inner / "index.js").write_text("")
    (inner / "test.js").write_text("")
    subprocess.run(["git", "init", "-q"], cwd=top, check=True)
    return inner


def test_a_package_without_its_own_script_is_built_by_its_workspace(tmp_path: Path) -> None:
    need("npm", "git")
    scripts = {"build": "echo types > packages/app/index.d.ts"}
    project = workspace(tmp_path, {"files": ["index.js", "index.d.ts"]}, scripts=scripts)
    made = carry_out(make_plan(project)).built[0]
    assert set(tree(Path(made.path))) == {"index.d.ts", "index.js", "package.json"}
    assert not (project / "index.d.ts").exists()


def test_a_package_that_needs_no_script_is_what_npm_would_publish(tmp_path: Path) -> None:
    need("npm", "git")
    project = workspace(tmp_path / "a", {"files": ["index.js"]})
    made = carry_out(make_plan(project)).built[0]
    assert set(tree(Path(made.path))) == {"index.js", "package.json"}
    packed = workspace(
        tmp_path / "b", {"files": ["lib"], "scripts": {"prepack": "mkdir lib; cp index.js lib"}}
    )
    made = carry_out(make_plan(packed)).built[0]
    assert set(tree(Path(made.path))) == {"lib/index.js", "package.json"}


def test_a_package_without_files_and_script_is_all_that_npm_would_publish(tmp_path: Path) -> None:
    need("node", "npm")
    project = package(tmp_path / "app", version="1.0.0", scripts={"test": "x"})
    (project / ".npmignore").write_text("test\n")
    for name in ("index.js", "lib/a.js", "test/a.js"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("")
    made = carry_out(make_plan(project), twice=True).built[0]
    assert set(tree(Path(made.path))) == {"index.js", "lib/a.js", "package.json"}
    text = json.loads((project / "package.json").read_text())
    (project / "package.json").write_text(json.dumps({**text, "private": True}))
    assert any("no script 'build'" in problem for problem in make_plan(project).problems)
    (project / "package.json").write_text(json.dumps({**text, "main": "index.js", "files": []}))
    made = carry_out(make_plan(project)).built[0]
    assert set(tree(Path(made.path))) == {"index.js", "package.json"}
