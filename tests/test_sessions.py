"""The nox sessions, registered in a user's noxfile."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from build_samples import copy_sample, need
from core_infra import sessions

NOXFILE = """\
import nox
from core_infra import sessions

nox.session(sessions.{name}, venv_backend="none")
"""


def nox(directory: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    need("-m nox")
    (directory / "noxfile.py").write_text(NOXFILE.format(name=name))
    # The environment that the tests run in: all that a session would install is there.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "nox", "-s", name, "--", *arguments],
        cwd=directory,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_line_makes_a_release_of_a_users_project(tmp_path: Path) -> None:
    need("task")
    project = copy_sample("taskfile", tmp_path / "greeter")
    done = nox(project, "release", "--target", "linux/amd64", "--name", "hi")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (project / "dist").iterdir()}
    assert {"hi_linux_amd64.tar.gz", "CHECKSUMS.txt", "sbom.cdx.json"} <= names


def test_a_release_can_be_a_dry_run_all_the_same(tmp_path: Path) -> None:
    need("task")
    project = copy_sample("taskfile", tmp_path / "greeter")
    done = nox(project, "release", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "task build GOOS=" in done.stdout
    assert not (project / "dist").exists()


def test_the_test_suite_runs_with_arguments(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_one(): pass\n\ndef test_two(): pass\n")
    done = nox(tmp_path, "tests", "-k", "one", "-p", "no:cacheprovider")
    assert "1 passed, 1 deselected" in done.stdout


def test_a_session_that_fails_fails(tmp_path: Path) -> None:
    need("task")
    project = copy_sample("taskfile", tmp_path / "greeter")
    (project / "greeter.sh").unlink()
    assert nox(project, "build").returncode == 1


def test_tasks_jobs_and_verify_take_what_the_project_has(tmp_path: Path) -> None:
    (tmp_path / "tasks.yml").write_text("tasks:\n  hello: {command: echo from a task}\n")
    assert "hello" in nox(tmp_path, "tasks", "tasks.yml", "--dry-run").stdout
    assert nox(tmp_path, "tasks").returncode == 0
    done = nox(tmp_path, "jobs")
    assert done.returncode != 0
    assert ".core/jobs.yaml" in done.stdout + done.stderr
    done = nox(tmp_path, "verify")
    assert done.returncode != 0
    assert "dist" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def copied_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project as a repository of its own, with what is compiled, so that nothing is again."""
    tree = tmp_path_factory.mktemp("tree") / "core"
    root = Path(__file__).parents[1]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if (root / name).is_file()]
    names += [str(path.relative_to(root)) for path in (root / "src").glob("**/bin/*")]
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, tree / name)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tree)]
    for command in (["init", "-q"], ["add", "-f", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    return tree


@pytest.mark.long
@pytest.mark.parametrize("origin", ["path", "wheel", "git"])
def test_sessions_install_the_core_infra_that_nox_has(
    tmp_path: Path, copied_tree: Path, origin: str
) -> None:
    source = str(copied_tree)
    if origin == "git":
        source = f"git+{copied_tree.as_uri()}"
    pip = ["-m", "pip", "--disable-pip-version-check", "-q"]
    if origin == "wheel":
        wheel = [*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(copied_tree)]
        subprocess.run([sys.executable, *wheel], check=True)
        source = str(next(tmp_path.glob("*.whl")))
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, *pip, "install", "nox", source], check=True)
    project = tmp_path / "project"
    project.mkdir()
    (project / "noxfile.py").write_text(
        "import nox\nfrom core_infra import sessions\n"
        "\nnox.session(sessions.tests)\nnox.session(sessions.lint)\nnox.session(sessions.plan)\n"
    )
    (project / "mypy.ini").write_text("[mypy]\nstrict = True\n")
    (project / "test_it.py").write_text(
        "from core_infra.medium import Medium\n\n\n"
        'def test_it(core_medium: Medium) -> None:\n    core_medium.write_text("a", "b")\n'
    )
    (project / "Taskfile.yml").write_text("version: '3'\ntasks: {build: {cmds: ['true']}}\n")
    names = {"git": ["tests", "plan"], "path": ["tests", "lint"], "wheel": ["tests"]}[origin]
    done = subprocess.run(
        [python, "-m", "nox", "-s", *names],
        cwd=project,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout
    for name in names:
        assert f"Session {name} was successful" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("group", "brings"),
    [
        ([], False),
        (["core_infra[pyfakefs]>=0.1", "pytest"], False),
        (["Core.Infra==0.1"], True),
        (["core-infra @ https://example.org/core.whl"], True),
        (["core-infra-extras==1"], False),
    ],
)
def test_a_project_that_pins_core_infra_gets_what_it_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: list[str], *, brings: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(f"[dependency-groups]\ntests = {group}\n")
    installed: list[str] = []
    session = types.SimpleNamespace(
        venv_backend="virtualenv",
        install=lambda *words: installed.extend(words),
        run=lambda *_words, **_options: None,
        posargs=[],
    )
    sessions.tests(session)  # type: ignore[arg-type] # all that it uses of one
    assert installed == [*group, *([] if brings else [sessions.requirement()]), "pytest"]


@pytest.mark.parametrize(
    ("files", "installed", "checked"),
    [
        ({"setup.cfg": "[metadata]\nname = x\n"}, ["ruff"], None),
        ({"pyproject.toml": "[dependency-groups]\nlint = ['a']\n"}, ["a", "ruff"], None),
        ({"pyproject.toml": "[tool.mypy]\nfiles = ['x']\n"}, ["ruff", "mypy"], []),
        ({"mypy.ini": "[mypy]\nstrict = True\n", "x.py": ""}, ["ruff", "mypy"], ["x.py"]),
        ({".mypy.ini": "[mypy]\npackages = x\n"}, ["ruff", "mypy"], []),
        (
            {"setup.cfg": "[mypy]\nstrict = True\n", "src/x/y.py": "", "docs/z.md": ""},
            ["-e", ".", "ruff", "mypy"],
            ["src"],
        ),
    ],
)
def test_lint_checks_the_types_of_all_but_the_noxfile(
    files: dict[str, str],
    installed: list[str],
    checked: list[str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in {**files, "noxfile.py": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    found: list[str] = []
    commands: list[tuple[str, ...]] = []
    session = types.SimpleNamespace(
        venv_backend="virtualenv",
        install=lambda *words: found.extend(words),
        run=lambda *words, **_options: commands.append(words),
        posargs=[],
    )
    sessions.lint(session)  # type: ignore[arg-type] # all that it uses of one
    assert [word for word in found if not word.startswith("core-infra")] == installed
    assert commands[2:] == ([] if checked is None else [("mypy", *checked)])


@pytest.mark.parametrize(
    ("files", "installed"),
    [
        ({"pyproject.toml": "[project]\nname = 'x'\n"}, ["build"]),
        ({"pyproject.toml": "[tool.poetry]\nname = 'x'\n"}, ["build"]),
        ({"pyproject.toml": "[build-system]\n", "setup.cfg": "[metadata]\n"}, ["build"]),
        ({"setup.cfg": "[metadata]\nname = x\n"}, ["build"]),
        ({"pyproject.toml": "[tool.ruff]\n", "go.mod": "module x\n"}, []),
        ({"mkdocs.yaml": "site_name: x\n"}, ["mkdocs"]),
        (
            {"mkdocs.yml": "theme: material\n", "requirements.txt": "mkdocs-material\n"},
            ["mkdocs", "-r", "requirements.txt"],
        ),
        (
            {
                "mkdocs.yml": "theme: material\n",
                "requirements.txt": "x\n",
                "pyproject.toml": "[dependency-groups]\ndocs = ['mkdocs-material']\n",
            },
            ["mkdocs-material", "mkdocs"],
        ),
    ],
)
def test_a_release_installs_what_its_tools_need(
    files: dict[str, str], installed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    found: list[str] = []
    session = types.SimpleNamespace(
        venv_backend="virtualenv",
        install=lambda *words: found.extend(words),
        run=lambda *_words, **_options: None,
        posargs=[],
    )
    sessions.release(session)  # type: ignore[arg-type] # all that it uses of one
    assert found == [sessions.requirement("build"), *installed]


def test_pins_of_developers_do_not_conflict_with_what_core_infra_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "-e .[standard]\n-r more.txt\nmkdocs==1.6\npytest==1.0\nPluggy==0.1 \\\n  --hash=x\n"
    (tmp_path / "requirements.txt").write_text(text)
    (tmp_path / "mkdocs.yml").write_text("site_name: x\n")
    monkeypatch.chdir(tmp_path)
    read: list[str] = []
    session = types.SimpleNamespace(
        venv_backend="virtualenv",
        install=lambda *words: read.append(Path(words[-1]).read_text()),
        run=lambda *_words, **_options: None,
        posargs=[],
    )
    sessions.release(session)  # type: ignore[arg-type] # all that it uses of one
    assert read == [f"-e .[standard]\n-r {tmp_path}/more.txt\nmkdocs==1.6\n"]


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ({"url": "file:///src/core", "dir_info": {"editable": True}}, "file:///src/core"),
        (
            {"url": "https://example.org/c.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "git+https://example.org/c.git@abc",
        ),
        (
            {
                "url": "https://example.org/c.git",
                "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "main"},
                "subdirectory": "python",
            },
            "git+https://example.org/c.git@abc#subdirectory=python",
        ),
        (
            {
                "url": "https://example.org/c.whl",
                "archive_info": {"hash": "sha256=12", "hashes": {"sha256": "12"}},
            },
            "https://example.org/c.whl#sha256=12",
        ),
        (
            {"url": "https://example.org/c.whl", "archive_info": {"hash": "sha256=12"}},
            "https://example.org/c.whl#sha256=12",
        ),
        (
            {"url": "file:///c.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "git+file://localhost/c.git@abc",
        ),
        ({"url": "file:///c.whl", "archive_info": {}}, "file:///c.whl"),
    ],
)
def test_what_an_installation_remembers_of_its_origin_is_a_requirement(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, object], url: str
) -> None:
    found = types.SimpleNamespace(version="1", read_text=lambda _name: json.dumps(origin))
    monkeypatch.setattr("importlib.metadata.distribution", lambda _name: found)
    assert sessions.requirement("build", "jobs") == f"core-infra[build,jobs] @ {url}"
    assert Requirement(sessions.requirement()).url == url


@pytest.mark.parametrize(
    "name",
    [
        *("build", "core_vm", "images", "jobs", "lint", "plan", "release", "tasks", "tests"),
        "verify",
    ],
)
def test_each_takes_a_session_and_says_what_it_is_for(name: str) -> None:
    function = getattr(sessions, name)
    assert isinstance(function, types.FunctionType)
    assert list(inspect.signature(function).parameters) == ["session"]
    assert function.__doc__


def test_a_session_installs_the_core_infra_that_nox_has() -> None:
    found = Requirement(sessions.requirement("build"))
    assert (found.name, found.extras) == ("core-infra", {"build"})
    assert found.url or found.specifier


def test_nox_needs_nothing_else_for_a_noxfile_with_them() -> None:
    source = str(Path(sessions.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {source!r}); "
    code += "from core_infra import sessions; print(sessions.requirement())"
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("core-infra")
