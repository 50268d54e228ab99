"""bootstrap.py as a user meets it: what it says, what it leaves, its exit codes.

It runs for real, on a copy of the project, with two stand-ins: an `apt-get` that fails as told (a
test must not change its host), and a package "nox" that tells its arguments (no network needed).
"""

import ast
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOX_MAIN = "import os, sys; print(os.getcwd(), *sys.argv[1:]); sys.exit(int(sys.argv[-1]))"


@dataclass
class Project:
    """A copy of what bootstrap.py reads, and the environment to start it in."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def command(self, *args: str, prelude: str = "") -> list[str]:
        script = f"{prelude}\nimport runpy; runpy.run_path('bootstrap.py', run_name='__main__')"
        return [sys.executable, "-c", script, *args]

    def run(self, *args: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*args, prelude=prelude),
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*args),
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def copy_project(root: Path) -> Project:
    root.mkdir()
    for name in ("bootstrap.py", "noxfile.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    return Project(root)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return copy_project(tmp_path / "project")


@pytest.fixture
def bare_host(project: Project, tmp_path: Path) -> Project:
    """Neither QEMU nor apt-get nor sudo."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "env").symlink_to("/usr/bin/env")
    project.env["PATH"] = str(programs)
    return project


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """pip finds our stand-in for nox, and nothing else. Shared, as environments take seconds."""
    project = copy_project(tmp_path_factory.mktemp("offline") / "project")
    wheels = project.root.with_name("wheels")
    wheels.mkdir()
    info = "nox-9999.0.dist-info"
    with zipfile.ZipFile(wheels / "nox-9999.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("nox/__init__.py", "")
        wheel.writestr("nox/__main__.py", NOX_MAIN)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nox\nVersion: 9999.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for name in [name for name in project.env if name.startswith("PIP_")]:
        del project.env[name]
    project.env |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    return project


@pytest.fixture
def ready(offline: Project) -> Project:
    """A project whose environment is there."""
    run = offline.run("lint", "0")
    assert run.returncode == 0, run.stderr
    return offline


def fake_apt(host: Project, *, update: str = "", install: str, known: str = "") -> None:
    """Like apt-get: `update` succeeds whatever happens, and `install` fails with what it says.

    And like apt-cache, which knows one package.
    """
    words = f"case $* in *update) echo '{update}' ;; *) echo '{install}'; exit 100 ;; esac"
    for name, line in (("apt-get", words), ("apt-cache", f'[ "$*" = "show {known}" ]')):
        program = Path(host.env["PATH"], name)
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)


def test_an_old_python_is_reported_with_the_needed_version(project: Project) -> None:
    run = project.run(
        "tests", prelude="import sys; sys.version = '3.9.2 (main)'; sys.version_info = (3, 9, 2)"
    )
    assert run.returncode == 3
    assert "needs Python 3.11 or newer" in run.stderr
    assert "is 3.9.2; start it with a newer one" in run.stderr
    assert run.stderr.count("\n") == 1
    assert not (project.root / ".venv").exists()


def test_an_old_python_can_read_the_file() -> None:
    ast.parse((ROOT / "bootstrap.py").read_text(), feature_version=(3, 6))


def test_help_tells_sessions_and_exit_codes(project: Project) -> None:
    run = project.run("--help")
    assert run.returncode == 0
    assert "  demo         The example suite on real machines" in run.stdout
    assert "  tests-long   The tests that are slow" in run.stdout
    assert "  6    no network" in run.stdout


@pytest.mark.parametrize("args", [[], ["tets"]])
def test_wrong_usage_names_the_sessions_and_installs_nothing(
    bare_host: Project, args: list[str]
) -> None:
    run = bare_host.run(*args)
    assert run.returncode == 2
    assert "SESSION" in run.stderr
    assert (
        args == []
        or "no session 'tets'; there are: lint, tests, tests-long, tests-soak, demo" in run.stderr
    )
    assert not (bare_host.root / ".venv").exists()


def test_without_apt_it_names_what_to_install(bare_host: Project) -> None:
    run = bare_host.run("tests")
    assert run.returncode == 4
    assert "which runs the virtual machines" in run.stdout
    assert "there is no apt-get: install the equivalents of qemu-system-" in run.stderr


def test_without_rights_it_names_the_command(bare_host: Project) -> None:
    fake_apt(bare_host, install="must not be called")
    run = bare_host.run("tests", prelude="import os; os.geteuid = lambda: 1000")
    assert run.returncode == 4
    assert "neither root nor sudo" in run.stderr
    assert "type: apt-get update && apt-get install -y --no-install-recommends qemu" in run.stderr
    assert "must not be called" not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("update", "install", "code", "sentence"),
    [
        ("W: Temporary failure resolving x", "E: Unable to locate package", 6, "no network"),
        ("W: Certificate verify failed for x", "E: Unable to locate package", 6, "not trusted"),
        ("", "E: Write error - write (28: No space left on device)", 7, "a disk is full"),
        ("", "E: You do not have enough free space in /var", 7, "a disk is full"),
        ("", "E: Unable to locate package", 5, "apt-get could not install qemu-system-"),
    ],
)
def test_a_failing_apt_is_shown_and_explained(
    bare_host: Project, update: str, install: str, code: int, sentence: str
) -> None:
    fake_apt(bare_host, update=update, install=install)
    run = bare_host.run("demo", prelude="import os; os.geteuid = lambda: 0")
    assert run.returncode == code
    # First the package and why, then the command, then what came of it.
    what = run.stdout.index("which runs the virtual machines")
    assert what < run.stdout.index("==> apt-get install -y --no-install-recommends qemu-system-")
    assert update in run.stderr
    assert install in run.stderr
    assert sentence in run.stderr.splitlines()[-1]


@pytest.mark.parametrize(("known", "times"), [("virtiofsd", 1), ("other", 0)])
def test_a_package_that_not_every_release_has_is_installed_where_it_is(
    bare_host: Project, known: str, times: int
) -> None:
    fake_apt(bare_host, install="", known=known)
    prelude = "import os, shutil; os.geteuid = lambda: 0\n"
    prelude += "shutil.which = lambda name, **_: '/bin/apt-get' if name == 'apt-get' else None"
    (line,) = (
        line
        for line in bare_host.run("tests", prelude=prelude).stdout.splitlines()
        if "apt-get install" in line
    )
    assert "cpio" in line.split()
    assert line.split().count("virtiofsd") == times


def test_nox_gets_the_arguments_and_its_exit_code_is_ours(ready: Project) -> None:
    run = ready.run("lint", "-k", "a b", "--help", "7")
    assert run.returncode == 7
    assert run.stdout == f"==> nox -s lint\n{ready.root} -s lint -- -k a b --help 7\n"


def test_two_dashes_before_the_arguments_are_not_passed_on(ready: Project) -> None:
    run = ready.run("lint", "--", "-x", "--", "0")
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1] == f"{ready.root} -s lint -- -x -- 0"


@pytest.mark.parametrize(
    "lost", [".", ".venv/bin/python", ".venv/lib/*/site-packages/nox", ".venv/.bootstrap"]
)
def test_a_moved_or_broken_environment_is_noticed(ready: Project, lost: str) -> None:
    question = [sys.executable, "-c", "import bootstrap; print(bootstrap.venv_is_ready())"]
    (path,) = ready.root.glob(lost) if lost != "." else [ready.root]
    away = path.rename(path.with_name("away"))
    answer = subprocess.check_output(
        question, cwd=away if path == ready.root else ready.root, text=True
    )
    assert answer == "False\n"
    away.rename(path)
    assert subprocess.check_output(question, cwd=ready.root, text=True) == "True\n"


@pytest.mark.long
def test_an_interrupted_run_says_so_and_is_taken_up(offline: Project) -> None:
    shutil.rmtree(offline.root / ".venv", ignore_errors=True)
    with socket.create_server(("127.0.0.1", 0)) as index:
        env = offline.env.copy()
        del env["PIP_NO_INDEX"]
        env["PIP_INDEX_URL"] = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        with Project(offline.root, env).start("lint", "0") as process:
            index.settimeout(120)
            index.accept()[0].close()  # Now pip is at work.
            os.killpg(process.pid, signal.SIGINT)
            _, complaints = process.communicate()
    assert process.returncode == 130
    assert complaints == "\nbootstrap.py: interrupted; the next run takes up from here\n"
    left_over = offline.root / ".venv" / "left-over"
    left_over.touch()
    run = offline.run("lint", "0")
    assert run.returncode == 0, run.stderr
    assert "a virtual environment with nox" in run.stdout
    assert not left_over.exists()


def test_a_killed_run_leaves_nothing_that_is_taken_for_done(project: Project) -> None:
    with project.start("lint") as process:
        assert process.stdout is not None
        assert "a virtual environment with nox" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    question = [sys.executable, "-c", "import bootstrap; print(bootstrap.venv_is_ready())"]
    assert subprocess.check_output(question, cwd=project.root, text=True) == "False\n"


def test_an_environment_of_the_user_is_left_alone(project: Project) -> None:
    venv = project.root / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (venv / "precious").touch()
    run = project.run("lint", "0")
    assert run.returncode == 8
    assert f"{venv} is not from this script: move it away" in run.stderr
    assert (venv / "precious").exists()


def test_pip_without_network_is_explained(project: Project) -> None:
    project.env |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": "",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "1",
    }
    run = project.run("lint")
    assert run.returncode == 6
    assert "no network" in run.stderr.splitlines()[-1]
    # Nothing half-made is taken for done.
    assert (project.root / ".venv" / ".bootstrap").read_text() == "unfinished"
