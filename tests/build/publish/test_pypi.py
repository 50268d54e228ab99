"""``core-infra release --publish`` of a Python project, to an index and a forge on this host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import pytest

from build_samples import need
from build_support import accepts
from jobs.release_servers import TOKEN, GitHubReleases

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-c", "from core_infra._cli.main import main; main()"]
PROGRAM = Path(__file__).parents[1] / "programs" / "package_index.py"
SETUP = "from setuptools import setup\nsetup(name='app', version='1.0', packages=[])\n"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address and the directory of a package index."""
    (tmp_path / "packages").mkdir()
    command = [sys.executable, str(PROGRAM), str(tmp_path / "packages")]
    with subprocess.Popen(command, stdout=PIPE, stderr=DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip(), tmp_path / "packages"
        server.kill()


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)


def test_an_interrupted_publication_is_continued(
    index: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("git", "-m build", "-m setuptools")
    url, packages = index
    with GitHubReleases() as server:
        app = tmp_path / "app"
        (app / ".core").mkdir(parents=True)
        forge = {"repository": "acme/app", "url": server.url}
        settings = {
            "build": {"flags": ["--no-isolation"]},
            "publish": {"pypi": url, "github": forge},
        }
        (app / ".core" / "build.yaml").write_text(json.dumps(settings))
        (app / "setup.py").write_text(SETUP)
        (app / ".gitignore").write_text("dist\n")
        git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
        words = (["init", "-q"], ["add", "-A"], ["commit", "-qm", "feat: begin"], ["tag", "v1.0"])
        for one in words:
            accepts(*git, *one, cwd=app)
        server.tags["v1.0"] = accepts("git", "rev-parse", "HEAD", cwd=app).strip()
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        monkeypatch.setenv("PYPI_TOKEN", "wrong")

        dry = run("release", app, "--publish")
        assert dry.returncode == 0, dry.stderr
        assert f'publish: PATCH {server.url}/repos/acme/app/releases/ID {{"draft": false}}' in (
            dry.stdout.splitlines()
        )
        assert (server.requests, (app / "dist").exists()) == ([], False)

        refused = run("release", app, "--publish", "--no-dry-run")
        assert refused.returncode == 9
        assert f"{url} did not accept app-1.0" in refused.stderr
        assert "wrong" not in refused.stderr
        assert (server.published(), list(packages.iterdir())) == ({}, [])
        before = {path.name: path.stat().st_mtime_ns for path in (app / "dist").iterdir()}

        monkeypatch.setenv("PYPI_TOKEN", "pypi-token")
        for _ in range(2):
            done = run("release", app, "--publish", "--no-dry-run")
            assert done.returncode == 0, done.stderr
            assert done.stdout.splitlines() == [url, f"{server.url}/acme/app/releases/1"]
            assert "is not built again" in done.stderr
        files = {path.name: path.read_bytes() for path in (app / "dist").iterdir()}
        assert server.published() == {"v1.0": files}
        uploaded = {path.name: path.read_bytes() for path in packages.iterdir()}
        assert uploaded == {name: files[name] for name in files if name.startswith("app-1.0")}
        assert len(uploaded) == 2
        assert {path.name: path.stat().st_mtime_ns for path in (app / "dist").iterdir()} == before
        assert server.violations == []
