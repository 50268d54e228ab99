"""A plan says all that would be run, and all that is missing, before anything is."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from build_samples import copy_sample, need, tree
from core_infra.build import _requirements
from core_infra.build._artifact import Target, host_target
from core_infra.build._config.settings import DEFAULT_TARGETS
from core_infra.build._errors import ConfigError, PreflightError
from core_infra.build._pipeline import carry_out
from core_infra.build._plan import Goal
from core_infra.build._preflight import make_plan
from core_infra.build._project import ProjectType
from core_infra.errors import InvalidError, NotFoundError
from core_infra.testing._toolchain import Toolchain

if TYPE_CHECKING:
    from pathlib import Path

    from core_infra.build._plan import BuildPlan


def commands(plan: BuildPlan) -> list[tuple[str, ...]]:
    return [command.argv for step in plan.steps for command in step.commands]


def configure(project: Path, text: str) -> Path:
    (project / ".core").mkdir(exist_ok=True)
    (project / ".core" / "build.yaml").write_text(text)
    return project


def test_what_is_planned_is_what_is_run(tmp_path: Path) -> None:
    project = copy_sample("linuxkit", tmp_path / "project")
    configure(project, "linuxkit: {assembler: linuxkit}\n")
    script = (
        'Path(argv[argv.index("--dir") + 1], "x").touch() if "--dir" in argv else print("v1.0")'
    )
    tools = Toolchain(tmp_path / "tools", {"linuxkit": script})
    assert tools.add("linuxkit")
    with tools.on_path():
        plan = make_plan(project)
        assert tools.calls() == []
        carry_out(plan)
    assert [tuple(call.argv) for call in tools.calls()] == commands(plan)


def test_everything_missing_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = configure(copy_sample("rust", tmp_path / "project"), "targets: []\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_requirements, "_RESERVE", 1 << 60)
    targets = [host_target(), Target("plan9", "amd64")]

    plan = make_plan(project, targets=targets)

    words = ["plan9/amd64", "cargo", "rustc", "free"]
    assert [any(word in problem for problem in plan.problems) for word in words] == [True] * 4
    assert len(plan.problems) == 4
    with pytest.raises(PreflightError) as caught:
        carry_out(plan)
    assert all(problem in str(caught.value) for problem in plan.problems)
    assert not (project / "dist").exists()


def test_a_broken_tool_is_reported_with_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "task"
    broken.write_text("#!/bin/sh\necho cannot load libx >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    plan = make_plan(copy_sample("taskfile", tmp_path / "project"))

    assert len(plan.problems) == 1
    assert "cannot load libx" in plan.problems[0]


def test_tools_are_those_of_the_projects_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copy_sample("rust", tmp_path / "project")
    (project / "rust-toolchain.toml").write_text("")
    line = "error: toolchain '9.9' is not installed"
    for name in ("cargo", "rustc"):  # as rustup does
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\n[ -f rust-toolchain.toml ] && echo "{line}\n0: main"\nexit 1'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    problems = make_plan(project).problems

    assert [line in problem for problem in problems] == [True, True]


@pytest.mark.parametrize("text", ["1\n2", "1\0", "x" * 101])
def test_a_name_or_version_that_no_file_can_have_is_refused(text: str, tmp_path: Path) -> None:
    project = copy_sample("taskfile", tmp_path / "project")
    with pytest.raises(InvalidError, match="no artifact can have the version"):
        make_plan(project, version=text)
    with pytest.raises(InvalidError, match="no artifact can have the name"):
        make_plan(project, name=text)


def test_a_deleted_current_directory_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(NotFoundError, match="the current directory was deleted"):
        make_plan()


def test_a_configuration_that_is_a_dangling_link_is_reported(tmp_path: Path) -> None:
    project = copy_sample("taskfile", tmp_path / "project")
    (project / ".core").mkdir()
    (project / ".core" / "build.yaml").symlink_to(tmp_path / "missing")
    with pytest.raises(NotFoundError, match=r"build\.yaml"):
        make_plan(project)


def test_a_plan_is_json_and_tells_no_secret(tmp_path: Path) -> None:
    need("go")
    text = "build: {env: [NPM_TOKEN=abcdef, COLOUR=blue]}\n"
    project = configure(copy_sample("go", tmp_path / "project"), text)
    configure(project, text)

    data = json.loads(json.dumps(make_plan(project, goal="release").as_data()))

    assert data["type"] == "go"
    assert data["why"] == "go.mod is there"
    assert data["targets"] == [str(target) for target in DEFAULT_TARGETS]
    assert data["tools"][0]["name"] == "go"
    assert data["tools"][0]["version"].startswith("1.")
    assert data["problems"] == []
    command = data["steps"][0]["commands"][0]
    assert shlex.split(command["shell"]) == command["argv"]
    assert "abcdef" not in json.dumps(data)


def test_a_directory_without_project_is_reported_with_the_missing_markers(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no go\.mod"):
        make_plan(tmp_path)
    with pytest.raises(NotFoundError, match="does not exist"):
        make_plan(tmp_path / "missing")


def test_a_malformed_configuration_is_reported_first(tmp_path: Path) -> None:
    project = configure(copy_sample("go", tmp_path / "project"), "targets: [{os: ../../x}]\n")
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=r"build\.yaml"):
        make_plan(project)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("sample", "targets"),
    [
        ("go", list(DEFAULT_TARGETS)),
        ("cpp", [host_target()]),
        ("node", []),
        ("docker", [Target("linux", host_target().arch)]),
    ],
)
def test_targets_are_those_that_the_kind_can_be_built_for(
    sample: str, targets: list[Target], tmp_path: Path
) -> None:
    project = copy_sample(sample, tmp_path / "project")
    assert list(make_plan(project).targets) == targets
    configure(project, "targets: [{os: linux, arch: riscv64}]\n")
    assert [str(target) for target in make_plan(project).targets] == ["linux/riscv64"]
    asked = [Target("linux", "arm64"), Target("linux", "arm64")]
    assert list(make_plan(project, targets=asked).targets) == asked[:1]


def test_the_type_is_asked_for_or_configured_or_discovered(tmp_path: Path) -> None:
    project = copy_sample("taskfile", copy_sample("go", tmp_path / "project"))
    assert make_plan(project).type is ProjectType.GO
    assert make_plan(project, type=ProjectType.TASKFILE).why == "it was requested"
    configure(project, "project: {type: taskfile}\n")
    plan = make_plan(project)
    assert (plan.type, plan.why) == (
        ProjectType.TASKFILE,
        "project.type in .core/build.yaml",
    )


def test_the_time_and_the_version_come_from_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("git")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    project = copy_sample("go", tmp_path / "project")
    assert make_plan(project).context.version == ""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2024-01-01T00:00:00Z")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["tag", "v1.4.0"]):
        subprocess.run(["git", *who, *words], cwd=project, check=True)

    config = make_plan(project).context

    assert (config.version, config.epoch) == ("v1.4.0", 1704067200)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "42")
    assert make_plan(project, version="2.0").context.epoch == 42
    assert make_plan(project, version="2.0").context.version == "2.0"


def test_packages_that_a_goal_needs_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    project = copy_sample("taskfile", tmp_path / "project")
    missing = [
        [
            word
            for word in ("zlib_ng", "cyclonedx")
            if word in str(make_plan(project, goal=goal).problems)
        ]
        for goal in Goal
    ]
    assert missing == [[], ["zlib_ng"], ["zlib_ng", "cyclonedx"]]


def test_other_possible_types_are_reported_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"packageManager": "yarn@4.0.0"}')
    (tmp_path / "composer.json").write_text("{}")
    plan = make_plan(tmp_path)
    assert (plan.type, plan.others) == (ProjectType.NODE, (ProjectType.PHP,))
    with pytest.raises(PreflightError, match="use --type; it could be: php"):
        plan.check()
    assert make_plan(tmp_path, type=ProjectType.PHP).others == ()
