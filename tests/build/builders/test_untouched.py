"""A build changes nothing of the project and its repository, whatever its programs do."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from build_samples import copy_sample, need
from core_infra.build._artifact import Target, host_target
from core_infra.build._builders.sources import sources_of
from core_infra.build._errors import SourcesError, ToolMissingError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = host_target()

HOSTILE = """\
#!/bin/sh
set -x
git gc -q; git pack-refs --all; git branch -D feature; git tag -d v1.0.0
git config core.hooksPath .husky; git config user.name nobody; git remote remove origin
hooks=$(git rev-parse --git-path hooks); mkdir -p "$hooks"; echo theirs > "$hooks/pre-commit"
echo tracked >> "$(git rev-parse --show-toplevel)/beside/tracked"
git add -A; git -c user.email=x@y commit -qm theirs; git stash; git clean -fdx
git checkout -q v1.0.0
echo lock > ../pnpm-lock.yaml; mkdir -p ../node_modules; touch ../new; rm -rf ../beside
test -z "$OUTPUT_DIR" || (cd "$OUTPUT_DIR" && git config --global --list; git rev-parse --git-dir)
exit 0
"""
"""What scripts of packages, hooks of build tools and compilers' plug-ins have been seen doing."""


def git(directory: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    allow = ("-c", "protocol.file.allow=always")
    done = subprocess.run(
        ["git", *who, *allow, *words], cwd=directory, check=True, capture_output=True, text=True
    )
    return done.stdout


def fingerprint(*directories: Path) -> dict[str, tuple[str, int, bytes]]:
    """Everything below directories: modes, times and content.

    Not the times of objects: git marks the ones that it would write again, so that it keeps them.
    """
    found = {}
    for path in sorted(path for top in directories for path in (top, *top.rglob("*"))):
        state = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(state.st_mode) else b""
        link = os.fsencode(path.readlink()) if path.is_symlink() else b""
        time = 0 if "objects" in path.parts else state.st_mtime_ns
        found[str(path)] = stat.filemode(state.st_mode), time, content + link
    return found


def repository(top: Path, fill: Callable[[Path], object]) -> Path:
    """A repository with branches, a tag, a hook and loose objects, and the project in ``app``."""
    project = top / "app"
    project.mkdir(parents=True)
    fill(project)
    (top / "beside").mkdir()
    (top / "beside" / "tracked").write_text("tracked\n")
    (top / ".gitignore").write_text("node_modules\nignored\n")
    hostile = top / "hostile.sh"
    hostile.write_text(HOSTILE)
    hostile.chmod(0o755)
    git(top, "init", "-q")
    git(top, "remote", "add", "origin", "https://example.org/x.git")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "one")
    git(top, "tag", "v1.0.0")
    git(top, "branch", "feature")
    (top / ".git" / "hooks" / "pre-commit").write_text("#!/bin/sh\necho mine\n")
    (top / "node_modules").mkdir()
    (top / "ignored").write_text("mine\n")
    (project / "uncommitted").write_text("mine\n")
    return project


def go(project: Path) -> None:
    need("go")
    copy_sample("go", project)


def node(project: Path) -> None:
    need("node", "npm")
    scripts = {
        "prepare": "sh ../hostile.sh",
        "build": "mkdir -p $OUTPUT_DIR; echo 1 > $OUTPUT_DIR/x",
    }
    (project / "package.json").write_text(json.dumps({"name": "app", "scripts": scripts}))


def php(project: Path) -> None:
    need("php", "composer")
    composer = {"name": "a/app", "scripts": {"build": "sh ../hostile.sh"}}
    (project / "composer.json").write_text(json.dumps(composer))


def cpp(project: Path) -> None:
    need("cmake", "c++")
    lines = [
        "cmake_minimum_required(VERSION 3.16)",
        "project(app C)",
        "set(here ${CMAKE_SOURCE_DIR})",
        "execute_process(COMMAND sh ${here}/../hostile.sh WORKING_DIRECTORY ${here})",
        'file(WRITE a.c "int main(void) { return 0; }")',
        "add_executable(app a.c)",
        "install(TARGETS app)",
    ]
    (project / "CMakeLists.txt").write_text("\n".join(lines))


def rust(project: Path) -> None:
    need("cargo", "rustc")
    copy_sample("rust", project)
    run = 'std::process::Command::new("sh").arg("../hostile.sh").status().unwrap();'
    (project / "build.rs").write_text(f"fn main() {{ {run} }}\n")


def python(project: Path) -> None:
    need("-m build", "-m setuptools")
    text = "import subprocess\nfrom setuptools import setup\n"
    text += (
        "subprocess.run(['sh', '../hostile.sh'])\nsetup(name='app', version='1.0.0', packages=[])\n"
    )
    (project / "setup.py").write_text(text)
    (project / ".core").mkdir()
    flags = "build: {flags: [--no-isolation, --wheel]}\n"
    (project / ".core" / "build.yaml").write_text(flags)


def taskfile(project: Path) -> None:
    need("task")
    commands = ["sh ../hostile.sh", 'echo 1 > "{{.OUTPUT_DIR}}/x"']
    tasks = {"version": "3", "tasks": {"build": {"cmds": commands}}}
    (project / "Taskfile.yml").write_text(json.dumps(tasks))


def docs(project: Path) -> None:
    need("-m mkdocs")
    copy_sample("docs", project)
    hook = "import subprocess\ndef on_pre_build(config):\n"
    hook += "    subprocess.run(['sh', '../hostile.sh'])\n"
    (project / "hook.py").write_text(hook)
    with (project / "mkdocs.yml").open("a") as file:
        file.write("\nhooks: [hook.py]\n")


@pytest.mark.parametrize(
    "fill",
    [
        *(go, node, cpp, taskfile),
        *(pytest.param(fill, marks=pytest.mark.long) for fill in (php, rust, python, docs)),
    ],
)
def test_hostile_programs_change_nothing_of_the_repository(
    fill: Callable[[Path], object], tmp_path: Path
) -> None:
    need("git")
    project = repository(tmp_path / "top", fill)
    before = fingerprint(tmp_path / "top")

    built = carry_out(make_plan(project, output=tmp_path / "out", targets=[HOST])).built

    assert built
    assert fingerprint(tmp_path / "top") == before
    assert git(project, "fsck", "--full") == ""
    plan = make_plan(project, output=tmp_path / "out")
    assert not plan.context.place.exists()


def test_a_work_tree_and_a_submodule_are_untouched_and_have_a_history(tmp_path: Path) -> None:
    need("git", "task")

    def fill(project: Path) -> None:
        line = 'git describe --tags --dirty > "{{.OUTPUT_DIR}}/x" && sh ../hostile.sh'
        tasks = {"version": "3", "tasks": {"build": {"cmds": [line]}}}
        (project / "Taskfile.yml").write_text(json.dumps(tasks))

    top = tmp_path / "top"
    project = repository(top, fill)
    (project / "uncommitted").unlink()
    git(top, "worktree", "add", "-q", str(tmp_path / "tree"), "v1.0.0")
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "submodule", "add", "-q", str(top), "sub")
    git(outer, "commit", "-qm", "one")
    git(outer / "sub", "checkout", "-q", "v1.0.0")
    before = fingerprint(tmp_path)

    for number, place in enumerate((tmp_path / "tree", outer / "sub")):
        out = tmp_path / f"out{number}"
        package = carry_out(make_plan(place / "app", output=out))
        assert package.program().read_text() == "v1.0.0\n"
        shutil.rmtree(out)

    os.utime(tmp_path, ns=(0, before[str(tmp_path)][1]))
    assert fingerprint(tmp_path) == before


def test_the_modules_of_the_directories_above_are_not_found(tmp_path: Path) -> None:
    need("node", "npm")
    script = "mkdir -p dist; node -p \"try { require('left') } catch { 'none' }\" > dist/x"
    project = tmp_path / "a" / "app"
    project.mkdir(parents=True)
    (project / "package.json").write_text(json.dumps({"name": "app", "scripts": {"build": script}}))
    module = tmp_path / "a" / "node_modules" / "left" / "index.js"
    module.parent.mkdir(parents=True)
    module.write_text("module.exports = 'the user'")
    made = carry_out(make_plan(project)).program()
    assert (made / "x").read_text() == "none\n"


def test_a_repository_that_git_does_not_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("git")
    project = repository(tmp_path / "top", lambda path: (path / "Taskfile.yml").write_text("x"))
    (tmp_path / "bin").mkdir()
    for name in ("sh", "env"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"))
        with pytest.raises(ToolMissingError, match="git is not on PATH"):
            make_plan(project)
    if os.getuid() == 0:
        for path in (tmp_path / "top", *(tmp_path / "top").rglob("*")):
            os.chown(path, 12345, 12345)
        with pytest.raises(SourcesError, match=r"another user owns(.|\n)*safe\.directory"):
            make_plan(project)
        os.chown(tmp_path / "top", 0, 0)
    (tmp_path / "top" / ".git" / "HEAD").unlink()
    with pytest.raises(SourcesError, match="git cannot read the repository"):
        make_plan(project)


def test_a_hook_of_another_repository_does_not_lend_its_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("git", "task")
    line = 'env | grep ^GIT_ > "{{.OUTPUT_DIR}}/x"'
    tasks = {"version": "3", "tasks": {"build": {"cmds": [line]}}}
    project = repository(
        tmp_path / "top", lambda path: (path / "Taskfile.yml").write_text(json.dumps(tasks))
    )
    other = repository(tmp_path / "other", lambda path: path)
    git(other, "tag", "v9.9.9")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    plan = make_plan(project)
    assert plan.context.version == "v1.0.0"
    text = carry_out(plan).program().read_text()
    assert "GIT_DIR" not in text
    assert "GIT_INDEX_FILE" not in text


@pytest.mark.parametrize(
    ("tags", "directory", "version"),
    [
        (["v1.0.0", "nightly", "latest", "sdk/v7.0.0"], ".", "v1.0.0"),
        (["v1.0.0", "apps/hello/v2.0.0"], "apps/hello", "v2.0.0"),
        (["v1.0.0"], "apps/hello", "v1.0.0"),
        (["v1.9.0", "v1.10.0", "v1.10.0-rc.1"], ".", "v1.10.0"),
        (["nightly"], ".", ""),
    ],
)
def test_the_version_is_that_of_a_tag_of_this_project(
    tags: list[str], directory: str, version: str, tmp_path: Path
) -> None:
    need("git")
    project = tmp_path / directory
    project.mkdir(parents=True, exist_ok=True)
    (project / "Taskfile.yml").write_text('version: "3"\n')
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    for tag in tags:
        git(tmp_path, "tag", tag)
    assert make_plan(project).context.version == version
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "two")
    later = make_plan(project).context.version
    assert later.startswith(f"{version}-1-g" if version else "")


def test_what_lies_beside_the_project_is_copied_as_far_as_its_tool_needs_it(tmp_path: Path) -> None:
    need("go")
    module = "module x.org/{}\n\ngo 1.21\n"
    (tmp_path / "lib").mkdir()
    (tmp_path / "app").mkdir()
    (tmp_path / "lib" / "go.mod").write_text(module.format("lib"))
    (tmp_path / "lib" / "l.go").write_text('package lib\n\nconst W = "lib"\n')
    replaced = f"{module.format('app')}\nrequire x.org/lib v0.0.0\nreplace x.org/lib => ../lib\n"
    (tmp_path / "app" / "go.mod").write_text(replaced)
    main = 'package main\n\nimport "x.org/lib"\n\nfunc main() { print(lib.W) }\n'
    (tmp_path / "app" / "main.go").write_text(main)
    (tmp_path / "large").mkdir()
    plan = make_plan(tmp_path / "app", targets=[Target("linux", "amd64")])
    assert carry_out(plan, twice=True).built
    digest = sources_of(plan.builder, plan.context, plan.targets).digest
    (tmp_path / "lib" / "l.go").write_text('package lib\n\nconst W = "new"\n')
    assert sources_of(plan.builder, plan.context, plan.targets).digest != digest
