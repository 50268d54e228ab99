"""What the archives of a release are called and contain, and what is stamped into programs."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from build_samples import copy_sample, need
from core_infra.build._artifact import Target, host_target
from core_infra.build._errors import ConfigError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan

if TYPE_CHECKING:
    from pathlib import Path

HOST = host_target()
TARGETS = [Target("linux", "amd64"), Target("windows", "amd64")]
STAMPED = """\
package main

var version, commit, date, note string

func main() { print(version, "|", commit, "|", date, "|", note) }
"""


def project(directory: Path, yaml: str) -> Path:
    need("task")
    (directory / ".core").mkdir(parents=True)
    (directory / ".core" / "build.yaml").write_text(yaml)
    (directory / "docs").mkdir()
    for name in ("LICENSE", "README.md", "main.c", "docs/manual.1"):
        (directory / name).write_text(name)
    line = 'echo hi > "{{.OUTPUT_DIR}}/tool"'
    (directory / "Taskfile.yml").write_text(
        f"version: '3'\ntasks: {{build: {{cmds: ['{line}']}}}}\n"
    )
    return directory


def names(path: Path) -> list[str]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_a_programs_archive_contains_the_licence_and_the_readme(tmp_path: Path) -> None:
    plan = make_plan(project(tmp_path / "app", ""), goal="package", targets=TARGETS)
    package = carry_out(plan, twice=True)
    for name in ("tool_linux_amd64.tar.gz", "tool_windows_amd64.zip"):
        assert names(package.directory / name) == ["LICENSE", "README.md", "tool"]


def test_the_licence_is_at_the_top_of_a_directory_that_was_installed(tmp_path: Path) -> None:
    directory = project(tmp_path / "app", "archive: {files: [LICENSE, README.md]}\n")
    mkdir = 'mkdir "{{.OUTPUT_DIR}}/tool" && echo hi > "{{.OUTPUT_DIR}}/tool/README.md"'
    taskfile = f"version: '3'\ntasks: {{build: {{cmds: ['{mkdir}']}}}}\n"
    (directory / "Taskfile.yml").write_text(taskfile)
    package = carry_out(make_plan(directory, goal="package", targets=TARGETS), twice=True)
    with zipfile.ZipFile(package.directory / "tool_windows_amd64.zip") as archive:
        assert archive.read("tool/README.md") == b"hi\n"
        assert archive.read("tool/LICENSE") == b"LICENSE"
        assert sorted(archive.namelist()) == ["tool/", "tool/LICENSE", "tool/README.md"]


def test_a_file_that_the_project_has_not_is_noted(tmp_path: Path) -> None:
    app = project(tmp_path / "app", "archive: {files: [LICENSE, docs/manual.2, man/*]}\n")
    (note,) = make_plan(app, goal="package").notes
    assert note == "archive.files has docs/manual.2, which does not exist"
    assert not make_plan(app).notes


def test_names_and_files_are_configured(tmp_path: Path) -> None:
    yaml = "archive: {name: '{name}-{version}-{os}-{arch}', files: [docs/*], wrap: true}\n"
    directory = project(tmp_path / "app", yaml)
    package = carry_out(make_plan(directory, goal="package", targets=TARGETS, version="v1.0"))
    stem = "tool-v1.0-linux-amd64"
    inside = [stem, f"{stem}/docs/manual.1", f"{stem}/tool"]
    assert names(package.directory / f"{stem}.tar.gz") == inside
    assert (package.directory / "tool-v1.0-windows-amd64.zip").is_file()
    unversioned = carry_out(make_plan(directory, goal="package", targets=TARGETS[:1]))
    assert unversioned.artifact().name == "tool-linux-amd64.tar.gz"


@pytest.mark.parametrize(
    ("yaml", "why"),
    [
        ("archive: {name: '{nmae}'}", r"\{nmae\} is not a placeholder"),
        ("archive: {name: '../{name}'}", "a file name"),
        ("archive: {name: '{name'}", "braces only in placeholders"),
        ("archive: {files: [../x]}", "inside the project"),
        ("build: {stamp: {main.v: '{{.Version}}'}}", "is not a placeholder|braces only"),
        ("build: {stamp: {version: x}}", "has a package: main.version"),
        ('build: {stamp: {main.v: "it\'s"}}', "without a single quote"),
    ],
)
def test_mistakes_are_reported(yaml: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        make_plan(project(tmp_path / "app", f"{yaml}\n"))


def stamped(directory: Path, yaml: str) -> Path:
    need("go", "git")
    app = copy_sample("go", directory)
    (app / "greeting.go").unlink()
    (app / "main.go").write_text(STAMPED)
    (app / ".core").mkdir()
    (app / ".core" / "build.yaml").write_text(yaml)
    return app


def output(program: Path) -> list[str]:
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    return done.stderr.split("|")


def test_variables_of_the_program_are_stamped(tmp_path: Path) -> None:
    stamp = "{main.commit: '{commit}', main.date: '{date}', main.note: 'two words'}"
    app = stamped(tmp_path / "app", f"build: {{stamp: {stamp}}}\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run(["git", *who, *words], cwd=app, check=True)
    git = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(git, cwd=app, check=True, capture_output=True, text=True).stdout.strip()
    plan = make_plan(app, targets=[HOST], version="1.0 beta")
    version, found, date, note = output(carry_out(plan).program())
    assert (version, found, note) == ("1.0 beta", commit, "two words")
    assert date.endswith("Z")


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        ("['-X', 'main.note=a b']", "a b"),
        ("[\"-X 'main.note=a b'\"]", "a b"),
        ("['-X', main.note=a]", "a"),
        ("['-X', \"main.note=it's\"]", "it's"),
    ],
)
def test_flags_of_the_linker_may_contain_spaces(flags: str, note: str, tmp_path: Path) -> None:
    app = stamped(tmp_path / "app", f"build: {{ldflags: {flags}}}\n")
    program = carry_out(make_plan(app, targets=[HOST])).program()
    assert output(program)[3] == note
