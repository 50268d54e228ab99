"""From a project to a release, with the real tools, and what is left when it goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build_samples import copy_sample, need, tree
from build_support import accepts
from core_infra.build._archives.archive import Format, Profile
from core_infra.build._artifact import Target, host_target
from core_infra.build._builders.workspace import WORK, workspace
from core_infra.build._errors import (
    BuildFailedError,
    NotReproducibleError,
    PreflightError,
    VerificationError,
)
from core_infra.build._pipeline import carry_out
from core_infra.build._plan import Packing
from core_infra.build._preflight import make_plan
from core_infra.build._verify import verify_release
from core_infra.errors import (
    AlreadyExistsError,
    CoreInfraError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    WrongStateError,
)
from core_infra.medium._local import LocalMedium
from core_infra.vm._run_directory import base_directory

if TYPE_CHECKING:
    from build_support import GpgHome

HOST = host_target()
WINDOWS = Target("windows", "amd64")


def task_project(directory: Path, *lines: str) -> Path:
    """A project whose task build runs these lines."""
    need("task")
    directory.mkdir()
    commands = "\n".join(f"      - {json.dumps(line)}" for line in lines)
    text = f'version: "3"\ntasks:\n  build:\n    cmds:\n{commands}\n'
    (directory / "Taskfile.yml").write_text(text)
    return directory


def test_a_package_runs_and_everybodys_tools_accept_it(tmp_path: Path) -> None:
    need("go")
    project = copy_sample("go", tmp_path / "project")
    plan = make_plan(project, goal="package", version="v1.2.3", targets=[HOST, WINDOWS])

    package = carry_out(plan)

    names = ["CHECKSUMS.txt", f"greeter_{HOST.directory}.tar.gz", "greeter_windows_amd64.zip"]
    found = sorted(path.name for path in package.directory.iterdir() if path.is_file())
    assert found == [*names, "manifest.json"]
    accepts("sha256sum", "-c", "CHECKSUMS.txt", cwd=package.directory)
    accepts("tar", "-xzf", package.artifact(str(HOST)).path, "-C", str(tmp_path))
    assert accepts(tmp_path / "greeter", "you") == "Hello, you!\nv1.2.3\n"
    assert accepts(package.program(str(HOST))) == "Hello, world!\nv1.2.3\n"
    with zipfile.ZipFile(package.artifact("windows/amd64").path) as archive:
        assert archive.namelist() == ["greeter.exe"]
    with pytest.raises(NotFoundError, match="no single artifact"):
        package.artifact()


def test_a_release_is_signed_and_verified_and_tampering_is_found(
    tmp_path: Path, gpg_home: GpgHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUPGHOME", gpg_home.path)
    monkeypatch.setenv("GPG_KEY_ID", gpg_home.address)
    monkeypatch.setenv("GPG_PASSPHRASE", gpg_home.passphrase)
    project = task_project(tmp_path / "app", 'echo "env: $GPG_PASSPHRASE" > "$OUTPUT_DIR/app"')
    plan = make_plan(project, goal="release", version="1.0", targets=[HOST])
    assert gpg_home.passphrase not in json.dumps(plan.as_data())
    assert [key.signs for key in plan.keys] == ["checksums"]

    package = carry_out(plan)

    described = [path.name for path in package.documents]
    documents = ["manifest.json", "sbom.cdx.json", "provenance.intoto.json"]
    assert described == [*documents, "CHECKSUMS.txt.asc", "CHECKSUMS.txt"]
    assert package.program().read_text() == "env: \n"
    accepts("gpg", "--verify", "CHECKSUMS.txt.asc", "CHECKSUMS.txt", cwd=package.directory)
    accepts("sha256sum", "-c", "CHECKSUMS.txt", cwd=package.directory)
    provenance = json.loads((package.directory / "provenance.intoto.json").read_text())
    assert provenance["predicate"]["buildDefinition"]["externalParameters"]["type"] == "taskfile"
    with Path(package.artifact().path).open("ab") as file:
        file.write(b"x")
    with pytest.raises(VerificationError, match="checksum"):
        verify_release(LocalMedium(), str(package.directory))


def test_impossible_signing_is_reported_before_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("gpg")
    (tmp_path / "gnupg").mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(tmp_path / "gnupg"))
    monkeypatch.setenv("GPG_KEY_ID", "nobody@example.org")
    project = task_project(tmp_path / "app", "touch built")

    with pytest.raises(PreflightError, match=r"nobody@example\.org"):
        carry_out(make_plan(project, goal="release"))

    assert not (project / "dist").exists()
    assert make_plan(project, goal="build").problems == ()


@pytest.mark.parametrize("sample", ["docs", "taskfile"])
def test_a_second_build_elsewhere_gives_the_same_bytes(sample: str, tmp_path: Path) -> None:
    need("task" if sample == "taskfile" else "-m mkdocs")
    project = copy_sample(sample, tmp_path / sample)

    package = carry_out(make_plan(project, goal="package"), twice=True)

    assert Path(package.artifact().path).is_file()
    assert not (package.directory / WORK).exists()


def test_what_differs_between_two_builds_is_named_and_neither_is_kept(tmp_path: Path) -> None:
    leaks = {"clock": "date +%s", "place": "pwd", "threads": "echo $GOMAXPROCS"}
    lines = [f'{leak} > "$OUTPUT_DIR/{name}"' for name, leak in leaks.items()]
    project = task_project(tmp_path / "app", *lines, 'echo same > "$OUTPUT_DIR/same"')

    with pytest.raises(NotReproducibleError) as caught:
        carry_out(make_plan(project, goal="package", threads=2), twice=True)

    found = [difference.partition(": content: ")[0] for difference in caught.value.differences]
    assert found == [f"{name}_{HOST.directory}.tar.gz: {name}" for name in sorted(leaks)]
    assert not (project / "dist").exists()


def test_where_and_how_one_works_does_not_show(tmp_path: Path) -> None:
    lines = ["sh -c umask", "locale", "date +%Z", "stat -c %Y Taskfile.yml", "echo $PYTHONHASHSEED"]
    project = task_project(tmp_path / "app", *(f'{line} >> "$OUTPUT_DIR/app"' for line in lines))

    package = carry_out(make_plan(project), twice=True)

    assert package.program().read_text().startswith("0022\nLANG=")


def test_the_format_and_the_profile_are_chosen(tmp_path: Path) -> None:
    project = task_project(tmp_path / "app", 'echo hi > "$OUTPUT_DIR/app"')
    for form, profile, name in (
        (Format.XZ, Profile.DEFAULT, f"app_{HOST.directory}.tar.xz"),
        (Format.ZIP, Profile.FAST, f"app_{HOST.directory}.zip"),
    ):
        package = carry_out(make_plan(project, goal="package", packing=Packing(form, profile)))
        assert Path(package.artifact().path).name == name


def test_a_new_release_replaces_the_old_and_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    project = task_project(tmp_path / "app", 'echo "$GOARCH" > "$OUTPUT_DIR/app"')
    both = [Target("linux", "amd64"), Target("linux", "arm64")]
    carry_out(make_plan(project, goal="release", targets=both))
    (project / "dist" / "notes").mkdir()

    package = carry_out(make_plan(project, goal="release", targets=both[:1]))

    names = {path.name for path in package.directory.iterdir()}
    assert "app_linux_arm64.tar.gz" not in names
    assert {"app_linux_amd64.tar.gz", "notes"} <= names
    verify_release(LocalMedium(), str(package.directory))


def test_a_killed_build_leaves_nothing_that_looks_finished_and_the_next_succeeds(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "started")
    wait = f"test -e {tmp_path}/go && exit; echo > {tmp_path}/started; sleep 600"
    project = task_project(tmp_path / "app", f'echo part > "$OUTPUT_DIR/app"; {wait}')
    command = "from core_infra._cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", command, "build", str(project)], stderr=subprocess.DEVNULL
    ) as build:
        (tmp_path / "started").read_text()
        build.kill()
    assert build.returncode == -signal.SIGKILL
    assert {path.name for path in (project / "dist").iterdir()} == {WORK}
    (tmp_path / "go").touch()

    package = carry_out(make_plan(project))

    assert package.program().read_text() == "part\n"
    assert not (project / "dist" / WORK).exists()


def test_a_build_leaves_the_files_of_running_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    run = base_directory() / "run-1"
    run.mkdir()
    carry_out(make_plan(task_project(tmp_path / "app", 'touch "$OUTPUT_DIR/app"'), targets=[HOST]))
    assert run.is_dir()


def test_a_failing_program_is_reported_with_its_output(tmp_path: Path) -> None:
    project = task_project(tmp_path / "app", "echo no such luck >&2; exit 3")

    with pytest.raises(BuildFailedError, match="no such luck") as caught:
        carry_out(make_plan(project))

    assert caught.value.command[:2] == ["task", "build"]
    assert not (project / "dist").exists()


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    project = task_project(
        tmp_path / "app", 'touch "$OUTPUT_DIR/app"; /bin/cp Taskfile.yml /dev/full'
    )

    with pytest.raises(UnavailableError, match="the disk is full"):
        carry_out(make_plan(project))

    assert not (project / "dist").exists()


def test_two_builds_into_one_directory_do_not_meet(tmp_path: Path) -> None:
    inner = "from core_infra.build import _pipeline, _preflight; "
    inner += f"_pipeline.carry_out(_preflight.make_plan({str(tmp_path / 'app')!r}))"
    line = f"{sys.executable} -c {json.dumps(inner)} 2>&1 | tail -3 > $OUTPUT_DIR/app"
    project = task_project(tmp_path / "app", line)

    package = carry_out(make_plan(project))

    assert "another build is writing there" in package.program().read_text()
    place = make_plan(project).context.place
    with workspace(project / "dist", place), pytest.raises(WrongStateError):
        carry_out(make_plan(project))


def test_the_output_cannot_be_around_the_project(tmp_path: Path) -> None:
    project = task_project(tmp_path / "app", "true")
    for output in (project, tmp_path):
        with pytest.raises(InvalidError, match=r"it contains the project"):
            make_plan(project, output=output)


def test_names_of_artifacts_stay_in_the_output_directory(tmp_path: Path) -> None:
    need("node", "npm")
    project = copy_sample("node", tmp_path / "project")
    hostile = {"name": "../../../evil", "scripts": {"build": "mkdir dist; touch dist/x"}}
    (project / "package.json").write_text(json.dumps(hostile))
    (project / "package-lock.json").unlink()
    before = set(tree(tmp_path))

    package = carry_out(make_plan(project, output=tmp_path / "out", goal="package"))

    assert Path(package.artifact().path) == tmp_path / "out" / "evil.tar.gz"
    assert all(name.startswith("out/") for name in set(tree(tmp_path)) - before)


def test_two_artifacts_of_one_name_are_refused(tmp_path: Path) -> None:
    line = 'mkdir "$OUTPUT_DIR/app"; touch "$OUTPUT_DIR/app/x" "$OUTPUT_DIR/app.exe"'
    project = task_project(tmp_path / "app", line)

    with pytest.raises(AlreadyExistsError):
        carry_out(make_plan(project, goal="package"))

    assert not (project / "dist").exists()


def test_a_task_without_artifacts_is_reported(tmp_path: Path) -> None:
    project = task_project(tmp_path / "app", "true")

    with pytest.raises(CoreInfraError, match="made no artifacts"):
        carry_out(make_plan(project))
