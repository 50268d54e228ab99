"""What Go programs are built of, and with."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from build_samples import copy_sample, need
from core_infra.build._artifact import Target, host_target
from core_infra.build._builders.programs import check_program
from core_infra.build._config.settings import DEFAULT_TARGETS
from core_infra.build._errors import ArtifactError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan

if TYPE_CHECKING:
    from pathlib import Path

HOST = host_target()
PROGRAM = "package main\n\nfunc main() {}\n"


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"go.mod": "module example.com/tools/v2\n\ngo 1.21\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def commands(project: Path, version: str = "") -> list[str]:
    plan = make_plan(project, targets=[HOST], version=version)
    assert plan.problems == ()
    return [" ".join(command.argv) for step in plan.steps for command in step.commands]


def test_what_the_project_says_reaches_the_compiler(tmp_path: Path) -> None:
    need("go")
    yaml = (
        "project: {main: ./tool, binary: hammer}\n"
        "build: {cgo: true, flags: [-tags=x, -buildvcs=auto], ldflags: [-s, '-X main.a=b']}\n"
    )
    project = lay(tmp_path, {"tool/main.go": PROGRAM, ".core/build.yaml": yaml})

    plan = make_plan(project, targets=[HOST], version="v9")

    (command,) = plan.steps[0].commands
    output = plan.context.staging(HOST.directory) / "hammer"
    flags = ("-tags=x", "-buildvcs=auto", "-ldflags", "-s -X main.a=b -X main.version=v9")
    assert command.argv == ("go", "build", *flags, "-o", str(output), "./tool")
    assert command.env["CGO_ENABLED"] == "1"


@pytest.mark.parametrize(
    ("language", "flags", "env", "added"),
    [
        ("go 1.13\n", "", "", True),
        ("", "", "", True),
        ("go 1.14\n", "", "", False),
        ("go 1.13\n", "-mod=mod", "", False),
        ("go 1.13\n", "", "GOFLAGS=-mod=mod", False),
    ],
)
def test_an_older_module_gets_the_flag_to_use_vendor(
    language: str,
    flags: str,
    env: str,
    added: bool,  # noqa: FBT001 - pytest gives it
    tmp_path: Path,
) -> None:
    need("go")
    yaml = f"build: {{flags: [{flags}], env: [{env}]}}\n"
    module = {"go.mod": f"module example.com/old\n\n{language}", "main.go": PROGRAM}
    lay(tmp_path, {**module, ".core/build.yaml": yaml})
    assert "-mod=vendor" not in commands(tmp_path)[0]
    lay(tmp_path, {**module, "vendor/modules.txt": ""})
    assert ("-mod=vendor" in commands(tmp_path)[0]) is added


def test_a_version_of_the_projects_own_is_not_overwritten(tmp_path: Path) -> None:
    need("go")
    yaml = "build: {ldflags: ['-X main.version=mine']}\n"
    project = lay(tmp_path, {"main.go": PROGRAM, ".core/build.yaml": yaml})
    (command,) = commands(project, "v9")
    assert "-ldflags -X main.version=mine -o" in command


def test_variables_of_the_project_reach_the_compiler(tmp_path: Path) -> None:
    need("go")
    only = "//go:build extra\n\npackage main\n\nfunc init() { extra = true }\n"
    main = "package main\n\nvar extra bool\n\nfunc main() { print(extra) }\n"
    files = {
        "main.go": main,
        "only.go": only,
        ".core/build.yaml": "build: {env: [GOFLAGS=-tags=extra]}",
    }
    program = carry_out(make_plan(lay(tmp_path, files), targets=[HOST])).program()
    said = subprocess.run([program], capture_output=True, text=True, check=True)
    assert said.stderr == "true"


def test_without_a_program_at_the_root_those_in_cmd_are_built(tmp_path: Path) -> None:
    need("go")
    library = {"lib.go": "package tools\n", "lib_test.go": PROGRAM}
    project = lay(tmp_path, {**library, "cmd/hammer/main.go": PROGRAM})
    (command,) = commands(project)
    assert command.endswith("/tools ./cmd/hammer")
    lay(tmp_path, {"cmd/saw/main.go": PROGRAM, "cmd/internal/x.go": "package internal\n"})
    built = commands(project)
    assert [command.rpartition(" ")[2] for command in built] == ["./cmd/hammer", "./cmd/saw"]
    package = carry_out(make_plan(project, targets=[HOST]))
    assert [artifact.name for artifact in package.built] == ["hammer", "saw"]


def test_without_any_program_the_plan_says_so(tmp_path: Path) -> None:
    project = lay(tmp_path, {"lib.go": "package tools\n"})
    assert any("project.main" in problem for problem in make_plan(project).problems)


def test_the_version_is_stamped_and_no_path_is_in_the_program(tmp_path: Path) -> None:
    need("go")
    project = copy_sample("go", tmp_path / "a-place-to-be-looked-for")
    program = carry_out(make_plan(project, targets=[HOST], version="v3.1")).program()
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert said == "Hello, world!\nv3.1\n"
    assert b"a-place-to-be-looked-for" not in program.read_bytes()


@pytest.mark.parametrize(
    ("module", "name"),
    [("example.com/x/greeter", "greeter"), ("example.com/greeter/v3", "greeter"), ("x", "x")],
)
def test_a_program_is_called_as_its_module(module: str, name: str, tmp_path: Path) -> None:
    lay(tmp_path, {"go.mod": f"// a comment\nmodule {module} // another\n", "main.go": PROGRAM})
    assert make_plan(tmp_path).context.name == name


LIBRARY = "package tools\n\nfunc Hello() {}\n"
GENERATOR = f"//go:build ignore\n\n{PROGRAM}"


def test_a_library_is_not_shipped_as_a_program(tmp_path: Path) -> None:
    need("go")
    files = {"lib.go": LIBRARY, "gen.go": GENERATOR}
    project = lay(tmp_path, {**files, "cmd/hammer/main.go": PROGRAM})
    (command,) = commands(project)
    assert command.endswith("./cmd/hammer")
    yaml = "project: {main: %s}\n"
    for main, why in ((".", ""), ("./lib", "is package lib, not a program"), ("./no", "directory")):
        lay(tmp_path, {".core/build.yaml": yaml % main, "lib/l.go": "package lib\n"})
        plan = make_plan(project, targets=[HOST])
        assert [why in problem for problem in plan.problems] == ([True] if why else [])


def test_a_program_for_one_platform_only_is_reported_for_the_others(tmp_path: Path) -> None:
    need("go")
    project = lay(tmp_path, {"main_windows.go": PROGRAM})
    targets = [Target("linux", "amd64"), Target("windows", "amd64")]
    (problem,) = make_plan(project, targets=targets).problems
    assert "no program for linux/amd64" in problem
    assert make_plan(project, targets=targets[1:]).problems == ()


def test_variables_that_contradict_the_configuration_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("go")
    yaml = "build: {env: [GOOS=windows, CGO_ENABLED=1]}\n"
    project = lay(tmp_path, {"main.go": PROGRAM, ".core/build.yaml": yaml})
    first, second = make_plan(project, targets=[Target("linux", "amd64")]).problems
    assert "build.env sets GOOS=windows" in first
    assert "build.env sets CGO_ENABLED=1, but build.cgo is false" in second
    (project / ".core" / "build.yaml").unlink()
    assert make_plan(project).notes == ()
    monkeypatch.setenv("CGO_ENABLED", "1")
    plan = make_plan(project, targets=[HOST])
    assert plan.problems == ()
    assert plan.notes == ("CGO_ENABLED=1 of the environment has no effect: build.cgo is false",)


@pytest.mark.parametrize(
    ("yaml", "found"),
    [
        ("flags: [-ldflags=-X main.version=z]", "-ldflags=-X main.version=z has no effect"),
        ("flags: [--ldflags, -s]", "--ldflags has no effect"),
        ("env: [GOFLAGS=-ldflags=-s]", "-ldflags=-s has no effect"),
        ("flags: [-ldflags=-s], ldflags: []", ""),
        ("ldflags: ['-X main.version={{.Version}}']", "{{.Version}} in build.ldflags is not"),
        ("ldflags: ['-X main.version={version}']", "{version} in build.ldflags is not replaced"),
        ("ldflags: ['-X main.version=$VERSION']", "$VERSION in build.ldflags is not replaced"),
    ],
)
def test_flags_that_would_be_lost_are_reported(yaml: str, found: str, tmp_path: Path) -> None:
    need("go")
    lay(tmp_path, {"main.go": PROGRAM, ".core/build.yaml": f"build: {{{yaml}}}\n"})
    plan = make_plan(tmp_path, targets=[HOST])
    assert [one[: len(found)] for one in (*plan.problems, *plan.notes)] == [found] * bool(found)


def test_linker_flags_of_the_environment_are_reported_but_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("go")
    monkeypatch.setenv("GOFLAGS", "-ldflags=-s")
    plan = make_plan(lay(tmp_path, {"main.go": PROGRAM}), targets=[HOST])
    assert not plan.problems
    assert "GOFLAGS of the environment: -ldflags=-s has no effect" in plan.notes[0]


def test_a_platform_that_go_does_not_know_is_reported(tmp_path: Path) -> None:
    need("go")
    lay(tmp_path, {"main.go": PROGRAM})
    targets = [*DEFAULT_TARGETS, Target("linux", "armv7"), Target("darwin", "universal")]
    assert not make_plan(tmp_path, targets=targets).problems
    (problem,) = make_plan(tmp_path, targets=[*targets, Target("plan10", "amd64")]).problems
    assert "Go cannot build for plan10/amd64" in problem


def test_what_the_compiler_made_must_be_a_program(tmp_path: Path) -> None:
    need("go")
    project = lay(tmp_path, {"main.go": PROGRAM})
    built = carry_out(make_plan(project, targets=[HOST])).program()
    check_program(built, HOST)
    for target, why in (
        (Target("windows", HOST.arch), "PE|ELF program"),
        (Target("linux", "riscv64"), f"ELF program for {HOST.arch}"),
    ):
        with pytest.raises(ArtifactError, match=why):
            check_program(built, target)
    (tmp_path / "object").write_bytes(b"!<arch>\n__.PKGDEF")
    with pytest.raises(ArtifactError, match="archive of object files"):
        check_program(tmp_path / "object", HOST)
