"""What single builders run and ship beyond the contract."""

from __future__ import annotations

import json
import subprocess
import sysconfig
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build_samples import copy_sample, need, tree
from core_infra.build._artifact import Target, host_target
from core_infra.build._builders.docker import DockerBuilder
from core_infra.build._errors import ArtifactMissingError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from core_infra.build._project import ProjectType
from core_infra.errors import AlreadyExistsError

if TYPE_CHECKING:
    from core_infra.build._plan import BuildPlan

HOST = host_target()
FOREIGN = Target("linux", "s390x")


def configure(project: Path, text: str) -> Path:
    (project / ".core").mkdir()
    (project / ".core" / "build.yaml").write_text(text)
    return project


def words(plan: BuildPlan) -> list[str]:
    return [" ".join(command.argv) for step in plan.steps for command in step.commands]


def run(*argv: str | Path) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_an_application_of_php_runs_from_its_tree(tmp_path: Path) -> None:
    need("php", "composer")
    tree_ = carry_out(make_plan(copy_sample("php", tmp_path / "app"))).program()
    assert run("php", tree_ / "bin" / "greeter", "you") == "Hello, you!\n"
    assert (tree_ / "built.txt").is_file()
    assert not (tree_ / ".git").exists()


def test_a_package_of_php_that_needs_no_other_or_has_them_is_built_offline(tmp_path: Path) -> None:
    need("php", "composer")
    project = tmp_path / "app"
    (project / "src").mkdir(parents=True)
    (project / "src/A.php").write_text("<?php namespace App; class A { const B = 'b'; }")
    composer = {
        "name": "acme/app",
        "require": {"php": ">=5.3", "ext-json": "*"},
        "require-dev": {"no-such-vendor/tests": "^1.0"},
        "autoload": {"psr-4": {"App\\": "src"}},
    }
    (project / "composer.json").write_text(json.dumps(composer))

    made = carry_out(make_plan(project), twice=True).program()

    call = "require $argv[1]; echo App\\A::B;"
    assert run("php", "-r", call, made / "vendor/autoload.php") == "b"

    composer["require"] = {"no-such-vendor/app": "^1.0"}
    (project / "composer.json").write_text(json.dumps(composer))
    assert words(make_plan(project))[0].startswith("composer install")
    (project / "vendor/composer").mkdir(parents=True)
    (project / "vendor/composer/installed.json").write_text('{"packages": [], "dev": false}')
    assert words(make_plan(project))[0].startswith("composer dump-autoload")
    (project / "composer.lock").write_text("{}")  # says what is to be there
    assert words(make_plan(project))[0].startswith("composer install")


def test_an_installed_tree_of_cmake_runs_and_has_no_path_in_it(tmp_path: Path) -> None:
    need("cmake", "c++")
    project = copy_sample("cpp", tmp_path / "a place to be looked for")
    made = carry_out(make_plan(project)).program()
    assert sorted(tree(made)) == ["bin/greeter", "include/greeting.hpp", "lib/libgreeting.a"]
    assert run(made / "bin" / "greeter") == "Hello, world!\n./src/main.cpp\n"
    assert not any(b"to be looked for" in content for content in tree(made).values())


def test_packages_of_cpack_are_shipped_as_they_are_and_the_same_twice(tmp_path: Path) -> None:
    need("cmake", "c++")
    project = copy_sample("cpp", tmp_path / "app")
    with (project / "CMakeLists.txt").open("a") as file:
        file.write("set(CPACK_GENERATOR TGZ)\ninclude(CPack)\n")
    package = carry_out(make_plan(project, goal="package"), twice=True)
    name = f"greeter-1.0-{HOST.os}-{HOST.arch}"
    assert [one.name for one in package.artifacts] == [f"{name}.tar.gz"]
    with tarfile.open(package.artifact().path) as archive:
        assert f"{name}/bin/greeter" in archive.getnames()


def test_without_the_option_for_its_packages_a_project_is_installed(tmp_path: Path) -> None:
    need("cmake", "c++")
    project = copy_sample("cpp", tmp_path / "app")
    with (project / "CMakeLists.txt").open("a") as file:
        file.write(
            "option(PACKAGES x)\nset(CPACK_GENERATOR TGZ)\nif(PACKAGES)\ninclude(CPack)\nendif()\n"
        )
    package = carry_out(make_plan(project, goal="package"))
    assert [one.name for one in package.artifacts] == [f"greeter_{HOST.os}_{HOST.arch}.tar.gz"]
    (project / ".core").mkdir()
    (project / ".core" / "build.yaml").write_text("build: {flags: [-DPACKAGES=ON]}\n")
    package = carry_out(make_plan(project, goal="package"))
    assert [one.name for one in package.artifacts] == [f"greeter-1.0-{HOST.os}-{HOST.arch}.tar.gz"]


@pytest.mark.parametrize(
    ("lines", "packages"),
    [
        ("include(CPack)\n", True),
        ("if(TRUE)\n  include( CPack )\nendif()\n", True),
        ("include(${PROJECT_SOURCE_DIR}/cmake/pack.cmake)\n", True),
        ("include(cmake/pack.cmake)\n", True),
        ("# include(CPack)\n", False),
        ("#[[\ninclude(CPack)\n]]\n", False),
        ("#[==[\ninclude(CPack)\n]==]\ninclude(cmake/other.cmake)\n", False),
    ],
)
def test_packages_are_made_if_cpack_is_included_by_a_file_of_the_project(
    lines: str,
    packages: bool,  # noqa: FBT001 - pytest gives it
    tmp_path: Path,
) -> None:
    project = copy_sample("cpp", tmp_path / "app")
    (project / "cmake").mkdir()
    (project / "cmake" / "pack.cmake").write_text("set(CPACK_GENERATOR TGZ)\ninclude(CPack)\n")
    with (project / "CMakeLists.txt").open("a") as file:
        file.write(lines)
    assert ("cpack" in words(make_plan(project))[-1]) is packages


def test_without_install_rules_programs_and_libraries_are_shipped(tmp_path: Path) -> None:
    need("cmake", "c++")
    project = copy_sample("cpp", tmp_path / "app")
    lists = project / "CMakeLists.txt"
    lists.write_text(lists.read_text().partition("install(")[0])
    assert sorted(tree(carry_out(make_plan(project)).program())) == ["greeter", "libgreeting.a"]
    lists.write_text("cmake_minimum_required(VERSION 3.20)\nproject(empty LANGUAGES NONE)\n")
    with pytest.raises(ArtifactMissingError, match="made no artifacts"):
        carry_out(make_plan(project))


FULL = """\
cmake_minimum_required(VERSION 3.20)
project(full VERSION 1.0 LANGUAGES NONE)
include(GNUInstallDirs)
file(RENAME ${CMAKE_SOURCE_DIR}/old.txt ${CMAKE_SOURCE_DIR}/new.txt)
install(FILES new.txt DESTINATION include)
install(FILES new.txt DESTINATION ${CMAKE_INSTALL_FULL_DATADIR}/core-infra-test)
install(FILES new.txt DESTINATION /core-infra-test)
"""


def test_rules_with_absolute_destinations_install_nowhere_but_into_the_tree(
    tmp_path: Path,
) -> None:
    need("cmake")
    (tmp_path / "CMakeLists.txt").write_text(FULL)
    (tmp_path / "old.txt").touch()

    made = carry_out(make_plan(tmp_path)).program()

    names = ["core-infra-test/new.txt", "include/new.txt", "share/core-infra-test/new.txt"]
    assert sorted(tree(made)) == names
    with (tmp_path / "CMakeLists.txt").open("a") as file:
        file.write("set(CPACK_GENERATOR TGZ)\ninclude(CPack)\n")
    package = carry_out(make_plan(tmp_path, goal="package"))
    with tarfile.open(package.artifact().path) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {"core-infra-test/new.txt", "usr/local/include/new.txt"} <= packed
    assert not Path("/core-infra-test").exists()
    assert not Path("/usr/local/share/core-infra-test").exists()
    assert (tmp_path / "old.txt").exists()  # configuring it changed a copy


def test_one_path_of_two_installed_files_is_an_error(tmp_path: Path) -> None:
    need("cmake")
    (tmp_path / "old.txt").touch()
    text = FULL + "install(FILES new.txt DESTINATION core-infra-test)\n"
    (tmp_path / "CMakeLists.txt").write_text(text)
    with pytest.raises(AlreadyExistsError, match=r"core-infra-test/new\.txt"):
        carry_out(make_plan(tmp_path))


def test_another_platform_needs_a_toolchain_file_or_a_rule(tmp_path: Path) -> None:
    project = copy_sample("cpp", tmp_path / "app")
    (problem,) = make_plan(project, targets=[FOREIGN]).problems
    assert "cmake/linux-s390x.cmake" in problem
    makefile = project / "Makefile"
    makefile.write_text("VARIABLE := linux-s390x\nlinux-s390x: prepare\n\ttrue\n")
    assert "make --jobs" in words(make_plan(project, targets=[FOREIGN]))[0]
    (project / "cmake").mkdir()
    (project / "cmake" / "linux-s390x.cmake").touch()
    (step,) = make_plan(project, targets=[FOREIGN]).steps
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={step.copy}/cmake/linux-s390x.cmake"
    assert toolchain in step.commands[0].argv


def test_a_rule_of_the_makefile_builds_for_its_platform(tmp_path: Path) -> None:
    need("make")
    project = copy_sample("cpp", tmp_path / "app")
    rule = "linux-s390x:\n\tmkdir -p $(OUTPUT_DIR)\n\techo $@ > $(OUTPUT_DIR)/app\n\ttouch junk\n"
    (project / "Makefile").write_text(rule)
    made = carry_out(make_plan(project, targets=[FOREIGN])).program()
    assert tree(made) == {"app": b"linux-s390x\n"}
    assert not (project / "junk").exists()


def test_a_program_of_rust_runs_and_has_no_path_in_it(tmp_path: Path) -> None:
    need("cargo", "rustc")
    project = copy_sample("rust", tmp_path / "a-place-to-be-looked-for")
    # Without a lock file cargo would write one beside the sources.
    (project / "Cargo.lock").unlink()
    configure(project, "project: {binary: hi}\n")
    program = carry_out(make_plan(project)).program()
    assert program.name == "hi"
    assert run(program, "you") == "Hello, you!\nsrc/main.rs\n"
    assert b"looked-for" not in program.read_bytes()
    assert not (project / "Cargo.lock").exists()


def test_a_target_that_rust_lacks_is_reported_before_the_build(tmp_path: Path) -> None:
    need("cargo", "rustc")
    project = copy_sample("rust", tmp_path / "app")
    plan = make_plan(project, targets=[Target("plan9", "amd64"), Target("freebsd", "amd64")])
    assert "plan9/amd64" in plan.problems[0]
    assert "rustup target add x86_64-unknown-freebsd" in plan.problems[1]


def test_a_task_gets_the_platform_and_the_output(tmp_path: Path) -> None:
    need("task")
    project = copy_sample("taskfile", tmp_path / "app")
    targets = [Target("linux", "arm64"), Target("windows", "amd64")]
    package = carry_out(make_plan(project, targets=targets, name="hi", version="v2"))
    said = [run("sh", one.path).splitlines()[1] for one in package.built]
    assert said == ["v2 for linux/arm64", "v2 for windows/amd64"]
    assert {one.name for one in package.built} == {"hi"}


def test_an_image_is_built_once_for_all_platforms_and_values_are_no_arguments(
    tmp_path: Path,
) -> None:
    project = copy_sample("docker", tmp_path / "app")
    yaml = "docker: {image: registry/app, tags: [one, two], build_args: [GREETING=hi, EMPTY=]}\n"
    configure(project, yaml)
    targets = [Target("linux", "amd64"), Target("linux", "arm64")]
    (step,) = make_plan(project, targets=targets).steps
    (command,) = step.commands
    text = " ".join(command.argv)
    assert "--platform linux/amd64,linux/arm64" in text
    assert "--tag registry/app:one --tag registry/app:two" in text
    assert "--build-arg GREETING --build-arg EMPTY" in text
    assert "GREETING=" not in text
    assert command.env["GREETING"] == "hi"
    assert "type=oci,dest=" in text


def test_an_image_can_be_loaded_or_pushed_instead(tmp_path: Path) -> None:
    project = copy_sample("docker", tmp_path / "App")
    pushed = make_plan(project, builder=DockerBuilder("push"), version="1.0+x")
    assert " --push --metadata-file " in words(pushed)[0]
    assert " --tag app:1.0-x " in words(pushed)[0]
    two = [Target("linux", "amd64"), Target("linux", "arm64")]
    loaded = make_plan(project, builder=DockerBuilder("load"), targets=two)
    assert any("one target" in problem for problem in loaded.problems)


def test_linuxkit_builds_for_linux_only_and_each_format(tmp_path: Path) -> None:
    project = copy_sample("linuxkit", tmp_path / "app")
    configure(project, "linuxkit: {formats: [kernel+initrd, iso-efi]}\n")
    plan = make_plan(project, targets=[Target("linux", "arm64"), Target("darwin", "arm64")])
    (command,) = words(plan)
    assert "--format kernel+initrd,iso-efi --name app " in command
    assert "--arch arm64" in command
    assert any("not for darwin/arm64" in problem for problem in plan.problems)


def test_wails_3_is_built_by_its_taskfile(tmp_path: Path) -> None:
    need("task")
    module = "module example.com/win\n\nrequire github.com/wailsapp/wails/v3 v3.0.0\n"
    (tmp_path / "go.mod").write_text(module)
    line = "mkdir -p bin; echo {{.GOOS}} > bin/win"
    text = f'version: "3"\ntasks:\n  build:\n    cmds:\n      - {json.dumps(line)}\n'
    (tmp_path / "Taskfile.yml").write_text(text)
    plan = make_plan(tmp_path, targets=[Target("linux", "amd64")])
    assert plan.type is ProjectType.WAILS
    if plan.problems:
        pytest.skip(plan.problems[0])
    assert carry_out(plan).program().read_text() == "linux\n"
    assert not (tmp_path / "bin").exists()


def test_a_package_of_python_is_built_in_isolation_by_default(tmp_path: Path) -> None:
    project = copy_sample("python", tmp_path / "app")
    (command,) = make_plan(project).steps[0].commands
    assert command.argv[1:4] == ("-P", "-m", "build")
    assert "--no-isolation" not in command.argv


def test_a_profile_of_the_project_replaces_that_of_a_release(tmp_path: Path) -> None:
    need("cargo")
    project = copy_sample("rust", tmp_path / "app")
    with (project / "Cargo.toml").open("a") as file:
        file.write('\n[profile.dist]\ninherits = "dev"\n')
    (project / ".core").mkdir()
    (project / ".core" / "build.yaml").write_text("build: {flags: [--profile=dist]}\n")
    plan = make_plan(project)
    assert not any("--release" in line for line in words(plan))
    assert all(program.tree is False for program in carry_out(plan).built)


def test_a_projects_own_build_py_is_not_the_program_that_builds_it(tmp_path: Path) -> None:
    need("-m build", "-m setuptools")
    project = copy_sample("python", tmp_path / "app")
    (project / "build.py").write_text("print('not this one')\n")
    (project / ".core").mkdir()
    yaml = "build: {flags: [--no-isolation, --wheel]}\n"
    (project / ".core" / "build.yaml").write_text(yaml)
    (built,) = carry_out(make_plan(project)).built
    assert built.name.endswith(".whl")


def test_flags_of_the_project_reach_compilers_that_get_others_from_us(tmp_path: Path) -> None:
    yaml = "build: {env: [CFLAGS=-O3, RUSTFLAGS=-Cdebuginfo=1, GOFLAGS=-mod=mod]}\n"
    for sample, name, flag in (
        ("cpp", "CFLAGS", "-O3 -ffile-prefix-map="),
        ("rust", "RUSTFLAGS", "-Cdebuginfo=1 --remap-path-prefix="),
        ("taskfile", "GOFLAGS", "-mod=mod -trimpath"),
    ):
        project = configure(copy_sample(sample, tmp_path / sample), yaml)
        (command, *_) = make_plan(project).steps[0].commands
        assert command.env[name].startswith(flag)


SETUPTOOLS = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "greeter"
version = "1.0.0"
"""


EXTENSION = """\
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "app", __FILE__, -1, NULL};
PyMODINIT_FUNC PyInit_app(void) { return PyModule_Create(&module); }
"""
SETUP = """\
from setuptools import Extension, setup

setup(ext_modules=[Extension("app", ["app.c"])])
"""


def test_what_setuptools_makes_with_times_and_paths_in_it_is_the_same_twice(
    tmp_path: Path,
) -> None:
    need("-m build", "-m setuptools", "cc")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        pytest.skip("the headers of Python are not installed on this host")
    project = copy_sample("python", tmp_path / "app")
    (project / "pyproject.toml").write_text(SETUPTOOLS)
    (project / "setup.py").write_text(SETUP)
    (project / "app.c").write_text(EXTENSION)
    yaml = "build: {flags: [--no-isolation, --sdist, --wheel], env: [CFLAGS=-g]}\n"

    package = carry_out(make_plan(configure(project, yaml), goal="package"), twice=True)

    wheel, sdist = package.artifacts
    assert (wheel.name.endswith(".whl"), sdist.name) == (True, "greeter-1.0.0.tar.gz")
    with tarfile.open(sdist.path) as archive:
        members = archive.getmembers()
    assert "greeter-1.0.0/src/greeter/__init__.py" in [member.name for member in members]
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(315532800, 0, "")}
