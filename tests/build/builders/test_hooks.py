"""The project's own commands before and after its builds and archives."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from build_samples import need, tree
from core_infra.build._artifact import Target
from core_infra.build._errors import BuildFailedError, ConfigError, NotReproducibleError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from core_infra.build._project import ProjectType

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = [Target("linux", "amd64"), Target("linux", "arm64")]
TASKFILE = """\
version: '3'
tasks: {build: {cmds: ['cat generated > "{{.OUTPUT_DIR}}/tool"']}}
"""
HOOKS = {
    "before": ['echo "$NAME $VERSION" > generated', "touch more; test -f generated"],
    "before_build": ["test -f more; echo $TARGET_ARCH >> generated"],
    "after_build": ['echo "after $TARGET_OS" >> "$OUTPUT_DIR/tool"'],
    "before_archive": ['test ! -e generated; ls "$OUTPUT_DIR" > NOTICE; rm LICENSE'],
    "after_archive": ['cd "$OUTPUT_DIR"\nls *.tar.gz > archives.txt'],
}


def project(directory: Path, hooks: object) -> Path:
    need("task")
    (directory / ".core").mkdir(parents=True)
    (directory / ".core" / "build.yaml").write_text(json.dumps({"hooks": hooks}))
    (directory / "Taskfile.yml").write_text(TASKFILE)
    (directory / "LICENSE").write_text("a licence\n")
    return directory


def test_hooks_run_in_copies_with_the_values_of_the_release(tmp_path: Path) -> None:
    app = project(tmp_path / "app", HOOKS)
    before = tree(app)
    plan = make_plan(app, goal="release", targets=TARGETS, version="1.0", output=tmp_path / "out")
    package = carry_out(plan, twice=True)
    assert tree(app) == before
    with tarfile.open(package.artifact("linux/arm64").path) as archive:
        tool = archive.extractfile("tool")
        assert tool is not None
        assert tool.read() == b"app 1.0\narm64\nafter linux\n"
        assert archive.getnames() == ["NOTICE", "tool"]
    listed = "tool_linux_amd64.tar.gz\ntool_linux_arm64.tar.gz\n"
    assert (package.directory / "archives.txt").read_text() == listed
    assert "archives.txt" in (package.directory / "CHECKSUMS.txt").read_text()
    provenance = json.loads((package.directory / "provenance.intoto.json").read_text())
    definition = provenance["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["hooks"]["before"] == HOOKS["before"]


@pytest.mark.parametrize("kind", HOOKS)
def test_a_hook_that_fails_ends_the_release(kind: str, tmp_path: Path) -> None:
    app = project(tmp_path / "app", {**HOOKS, kind: ["echo why; false; true"]})
    plan = make_plan(app, goal="release", targets=TARGETS[:1], version="1.0")
    with pytest.raises(BuildFailedError, match=f"{kind} 1 failed") as error:
        carry_out(plan)
    assert "why" in str(error.value)
    assert not (app / "dist").exists()


def test_hooks_are_part_of_what_is_reproducible(tmp_path: Path) -> None:
    app = project(tmp_path / "app", {**HOOKS, "after_archive": ['date +%N > "$OUTPUT_DIR/now"']})
    plan = make_plan(app, goal="package", targets=TARGETS[:1])
    with pytest.raises(NotReproducibleError, match="now"):
        carry_out(plan, twice=True)


def test_mistakes_and_impossible_hooks_are_reported(tmp_path: Path) -> None:
    app = project(tmp_path / "app", {"before": [" "], "after_builds": []})
    with pytest.raises(ConfigError, match=r"(?s)before\[0\]: expected a command.*after_build"):
        make_plan(app)
    docker = project(tmp_path / "docker", {"before": ["true"]})
    (docker / "Dockerfile").write_text("FROM scratch\n")
    plan = make_plan(docker, type=ProjectType.DOCKER)
    assert any("built in place" in problem for problem in plan.problems)
