"""Several builds of one project, released together or alone; a release made of parts."""

from __future__ import annotations

import json
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from build_samples import need, repository
from core_infra._cli.main import main
from core_infra.build import load_config, make_merge_plan, make_plan, verify_release
from core_infra.build._errors import ConfigError, PreflightError
from core_infra.build._pipeline import carry_out
from core_infra.build._publish.publish import is_finished
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError
from core_infra.medium import LocalMedium, MemoryMedium

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from core_infra.build._config.settings import BuildConfig

TASK = {
    "version": "3",
    "tasks": {
        "build": {
            "cmds": ['echo "$NAME {{.VERSION}} {{.GOOS}}" > "{{.OUTPUT_DIR}}/{{.NAME}}"'],
            "env": {"NAME": "{{.NAME}}"},
        }
    },
}
CONFIG = """
targets: [{os: linux, arch: amd64}, {os: darwin, arch: arm64}]
builds:
- {name: server}
- {name: cli, targets: [{os: windows, arch: amd64}]}
- {name: docs, dir: site, tag_prefix: site-}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    need("task")
    files = {
        "Taskfile.yml": json.dumps(TASK),
        "site/Taskfile.yml": json.dumps(TASK),
        "LICENSE": "MIT",
        ".core/build.yaml": CONFIG,
    }
    return repository(tmp_path / "shop", files, "v1.2.0", "site-v0.3")


def configuration(text: str) -> BuildConfig:
    medium = MemoryMedium()
    medium.write_text(".core/build.yaml", text)
    return load_config(medium, ".", env={})


def command(*words: str) -> Any:
    return CliRunner().invoke(main, ["release", *words])


def described(directory: Path) -> Any:
    statement = json.loads((directory / "provenance.intoto.json").read_text())
    return statement["predicate"]["buildDefinition"]


def test_a_build_has_the_settings_of_the_file_unless_it_has_its_own() -> None:
    config = configuration(
        """
        build: {cgo: true, env: [A=1]}
        archive: {wrap: true}
        sign: {enabled: false}
        builds: [{name: one}, {name: two, dir: sub, build: {env: []}, archive: {name: x}}]
        """
    )
    one, two = config.builds
    assert (one.config.build, one.config.sign) == (config.build, config.sign)
    assert two.config.build.cgo
    assert two.config.build.env == ()
    assert (two.config.archive.name, two.config.archive.wrap) == ("x", True)
    assert (one.directory, two.directory, two.has_own_release) == (".", "sub", False)


@pytest.mark.parametrize(
    ("builds", "why"),
    [
        ("[{dir: a}]", "builds[0].name: missing field"),
        ("[{name: a}, {name: a}]", "a is there twice"),
        ("[{name: a, dir: ../b}]", "builds[0].dir: expected a path inside"),
        ("[{name: a, publish: {pypi: pypi}}]", "only a build with a tag_prefix of its own"),
        ("[{name: a, builds: []}]", "builds[0].builds: unknown field"),
    ],
)
def test_mistakes_in_builds_are_reported(builds: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configuration(f"builds: {builds}")
    assert why in str(caught.value)


def test_builds_are_released_together_or_with_their_own_version(project: Path) -> None:
    done = command(str(project), "--no-dry-run")
    assert done.exit_code == 0, done.output
    dist = project / "dist"
    size = (dist / "cli_windows_amd64.zip").stat().st_size
    assert f"cli_windows_amd64.zip          {size} B" in done.stderr.splitlines()
    assert {one.name for one in dist.glob("*_*.*")} == {
        "server_linux_amd64.tar.gz",
        "server_darwin_arm64.tar.gz",
        "cli_windows_amd64.zip",
    }
    assert (dist / "windows_amd64/cli").read_text() == "cli v1.2.0 windows\n"
    with tarfile.open(dist / "docs/docs_linux_amd64.tar.gz") as archive:
        assert set(archive.getnames()) == {"docs", "LICENSE"}
        program = archive.extractfile("docs")
        assert program
        assert program.read() == b"docs v0.3 linux\n"
    for directory, version in ((dist, "v1.2.0"), (dist / "docs", "v0.3")):
        verify_release(LocalMedium(), str(directory))
        assert described(directory)["externalParameters"]["version"] == version
    assert [one["build"] for one in described(dist)["externalParameters"]["builds"]] == [
        "server",
        "cli",
    ]


def test_some_of_the_builds(project: Path) -> None:
    plan = make_plan(project, builds=["cli"], goal="package")
    assert [artifact.name for artifact in carry_out(plan, twice=True).artifacts] == [
        "cli_windows_amd64.zip"
    ]
    with pytest.raises(PreflightError, match="the release consists of all builds, also of server"):
        make_plan(project, builds=["cli"], goal="release").check()
    with pytest.raises(NotFoundError, match=r"no build 'srever'.*"):
        make_plan(project, builds=["srever"])
    with pytest.raises(InvalidError, match="has several releases"):
        make_plan(project)
    with pytest.raises(InvalidError, match="each has a name and a type"):
        make_plan(project, builds=["cli"], name="x")


def split(project: Path, place: Path, *targets: str) -> Path:
    words = [word for target in targets for word in ("--split", target)]
    done = command(
        *(str(project), "--build", "server", "--build", "cli"),
        *("-o", str(place), "--no-dry-run", *words),
    )
    assert done.exit_code == 0, done.output
    return place


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    need("task")
    top = tmp_path_factory.mktemp("parts")
    files = {"Taskfile.yml": json.dumps(TASK), ".core/build.yaml": CONFIG}
    project = repository(top / "shop", files, "v1.2.0")
    split(project, top / "parts/a", "linux", "windows")
    split(project, top / "parts/b", "darwin")
    return project, top / "parts"


def test_a_release_of_parts_is_the_same_as_a_whole_one(
    parts: tuple[Path, Path], tmp_path: Path
) -> None:
    project, place = parts
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    carry_out(make_plan(project, goal="release", builds=["server", "cli"], output=whole))
    done = command(str(project), "--merge", str(place), "-o", str(merged), "--no-dry-run")
    assert done.exit_code == 0, done.output
    verify_release(LocalMedium(), str(merged))
    assert described(whole) == described(merged)
    for name in ("manifest.json", "sbom.cdx.json", "server_linux_amd64.tar.gz"):
        assert (whole / name).read_bytes() == (merged / name).read_bytes()
    # So a second run only publishes.
    assert is_finished(make_merge_plan(project, [place], output=merged))
    assert not is_finished(make_merge_plan(project, [place], output=whole / "none"))


def alter(parts: Path) -> None:
    (parts / "a/server_linux_amd64.tar.gz").write_bytes(b"other")


def add(parts: Path) -> None:
    (parts / "a/more.txt").write_text("")


def forget(parts: Path) -> None:
    shutil.rmtree(parts / "b")


def repeat(parts: Path) -> None:
    shutil.copytree(parts / "b", parts / "c")


def edit(field: str) -> Callable[[Path], None]:
    def change(parts: Path) -> None:
        path = parts / "b/part.json"
        data = json.loads(path.read_text())
        data["common"][field] = "x" if field != "sources" else {"server": "x"}
        path.write_text(json.dumps(data))

    return change


def break_it(parts: Path) -> None:
    (parts / "b/part.json").write_text("{")


def leave(parts: Path) -> None:
    path = parts / "b/part.json"
    path.write_text(path.read_text().replace('"server_darwin', '"../server_darwin'))


def confuse(parts: Path) -> None:
    path = parts / "b/part.json"
    data = json.loads(path.read_text())
    data["accounts"]["server"]["dependencies"] = 1
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (alter, "server_linux_amd64.tar.gz: it is "),
        (add, "more.txt: it is not in part.json"),
        (forget, "the part for server darwin/arm64 is missing"),
        (repeat, "server darwin/arm64 is there twice"),
        (edit("commit"), "is of another commit: x, not "),
        (edit("version"), "is of another version: x, not v1.2.0"),
        (edit("configuration"), "is of another configuration: x, not "),
        (edit("core_infra"), "is of another core-infra: x, not "),
        (edit("sources"), "is made of other sources"),
        (break_it, "part.json is not the description of a part"),
        (leave, "'../server_darwin_arm64.tar.gz' is not the name of a file"),
        (confuse, "the description of its build is malformed"),
    ],
)
def test_wrong_parts_are_refused_and_nothing_is_made(
    parts: tuple[Path, Path], tmp_path: Path, trouble: Callable[[Path], None], why: str
) -> None:
    project, good = parts
    place = tmp_path / "parts"
    shutil.copytree(good, place)
    trouble(place)
    with pytest.raises(CoreInfraError) as caught:
        carry_out(make_merge_plan(project, [place], output=tmp_path / "dist"))
    assert why in str(caught.value)
    assert str(caught.value).count(why) == 1
    assert not (tmp_path / "dist").exists()


def test_a_part_of_nothing_and_a_merge_of_nothing(parts: tuple[Path, Path], tmp_path: Path) -> None:
    project, _ = parts
    done = command(str(project), "--build", "cli", "--split", "linux")
    assert done.exit_code == 3
    with pytest.raises(NotFoundError, match="is not a part of a release"):
        make_merge_plan(project, [tmp_path])
    assert "--merge publishes" in command(str(project), "--split", "x", "--publish").output
