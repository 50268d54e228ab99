from __future__ import annotations

import pytest

from core_infra.build import _project
from core_infra.build._project import ProjectType, discover, explain, primary_type
from core_infra.medium import MemoryMedium

MARKERS = {
    "go.mod": ProjectType.GO,
    "wails.json": ProjectType.WAILS,
    "package.json": ProjectType.NODE,
    "composer.json": ProjectType.PHP,
    "CMakeLists.txt": ProjectType.CPP,
    "Dockerfile": ProjectType.DOCKER,
    "linuxkit.yml": ProjectType.LINUXKIT,
    ".core/linuxkit/server.yml": ProjectType.LINUXKIT,
    "Taskfile.yml": ProjectType.TASKFILE,
    "Taskfile.yaml": ProjectType.TASKFILE,
    "pyproject.toml": ProjectType.PYTHON,
    "Cargo.toml": ProjectType.RUST,
    "mkdocs.yml": ProjectType.DOCS,
}


def tree(*names: str) -> MemoryMedium:
    medium = MemoryMedium()
    medium.ensure_dir("it")
    for name in names:
        medium.write_text(f"it/{name}", "")
    return medium


@pytest.mark.parametrize(("marker", "kind"), MARKERS.items())
def test_each_marker_tells_its_type(marker: str, kind: ProjectType) -> None:
    assert discover(tree(marker), "it") == [kind]


def test_a_directory_without_project_has_no_type() -> None:
    assert discover(tree("README.md"), "it") == []
    assert primary_type(tree("README.md"), "it") is None


def test_a_directory_that_is_not_there_has_no_type() -> None:
    assert discover(MemoryMedium(), "no/such") == []


def test_the_most_specific_comes_first() -> None:
    medium = tree("Dockerfile", "package.json", "go.mod", "wails.json", "Taskfile.yml")
    found = [ProjectType.WAILS, ProjectType.GO, ProjectType.NODE]
    assert discover(medium, "it") == [*found, ProjectType.DOCKER, ProjectType.TASKFILE]
    assert primary_type(medium, "it") is ProjectType.WAILS


@pytest.mark.parametrize("marker", MARKERS)
def test_a_directory_of_a_markers_name_is_none(marker: str) -> None:
    medium = MemoryMedium()
    medium.ensure_dir(f"it/{marker}")
    assert discover(medium, "it") == []


def test_wails_3_is_recognized_by_go_mod_and_taskfile() -> None:
    medium = tree("Taskfile.yml")
    medium.write_text(
        "it/go.mod", "module x\nrequire (\n\tgithub.com/wailsapp/wails/v3 v3.0.1\n)\n"
    )
    assert primary_type(medium, "it") is ProjectType.WAILS
    medium.delete("it/Taskfile.yml")  # a library for Wails is no application
    assert primary_type(medium, "it") is ProjectType.GO


def test_the_questions_of_old() -> None:
    medium = tree("wails.json")
    assert _project.is_go_project(medium, "it")
    assert _project.is_wails_project(medium, "it")
    assert not _project.is_node_project(medium, "it")
    assert not _project.is_php_project(medium, "it")
    assert not _project.is_cpp_project(medium, "it")
    assert _project.is_php_project(tree("composer.json"), "it")
    assert _project.is_cpp_project(tree("CMakeLists.txt"), "it")
    assert _project.is_node_project(tree("package.json"), "it")


def test_explain_says_for_every_type_what_decided() -> None:
    medium = tree("go.mod")
    medium.ensure_dir("it/package.json")
    found = {one.type: one for one in explain(medium, "it")}
    assert set(found) == set(ProjectType)
    assert found[ProjectType.GO].marker == "go.mod"
    assert found[ProjectType.NODE].why == "package.json is a directory"
    assert found[ProjectType.PHP].why == "no composer.json"
    assert not found[ProjectType.PHP].found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[tool.ruff]\nline-length = 100\n", False),
        ("[tool.black]\n[tool.codespell]\n", False),
        ("[project]\nname = 'x'\n", True),
        ("[build-system]\nrequires = []\n[tool.ruff]\n", True),
        ("[tool.poetry]\nname = 'x'\n", True),
        ("not = toml = at all", True),
    ],
)
def test_a_pyproject_that_configures_tools_is_not_a_package(
    text: str,
    found: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    medium = tree("CMakeLists.txt")
    medium.write_text("it/pyproject.toml", text)
    assert (ProjectType.PYTHON in discover(medium, "it")) is found
    (finding,) = [one for one in explain(medium, "it") if one.type is ProjectType.PYTHON]
    assert ("configures tools" in finding.why) is not found
    medium.write_text("it/setup.py", "")
    assert ProjectType.PYTHON in discover(medium, "it")


@pytest.mark.parametrize(
    ("text", "is_project"),
    [
        (
            '{"private": true, "devDependencies": {"prettier": "3"}, "scripts": {"lint": "x"}}',
            False,
        ),
        ('{"devDependencies": {"husky": "9"}}', False),
        ('{"devDependencies": {"vite": "7"}, "scripts": {"build": "vite build"}}', True),
        ('{"devDependencies": {"vite": "7"}, "main": "index.js"}', True),
        ('{"devDependencies": {"lerna": "8"}, "workspaces": ["packages/*"]}', True),
        ('{"name": "app", "version": "1.0.0"}', True),
        ("[]", True),
        ("{", True),
    ],
)
def test_a_package_json_that_only_lists_tools_is_not_a_project(
    text: str,
    is_project: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    medium = tree("CMakeLists.txt")
    medium.write_text("it/package.json", text)
    expected = ProjectType.NODE if is_project else ProjectType.CPP
    assert _project.primary_type(medium, "it") == expected
