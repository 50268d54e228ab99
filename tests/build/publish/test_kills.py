"""Publications that are killed at any moment: nothing is half published, a second run completes."""

from __future__ import annotations

import io
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import pytest

from build_samples import git, need, repository
from core_infra.process import Service, TcpPort
from jobs.release_servers import TOKEN, ForgejoReleases

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-c", "from core_infra._cli.main import main; main()"]
PROGRAM = Path(__file__).parents[1] / "programs" / "package_index.py"
LINE = 'echo "{{.GOARCH}}" > "{{.OUTPUT_DIR}}/tool"'
KILLS = 200


class Places:
    """The servers that a release is published to."""

    def __init__(self, top: Path, forge: ForgejoReleases, index: str, registry: str) -> None:
        self.forge = forge
        self.index = index
        self.registry = registry
        self.packages = top / "packages"
        self.repositories = top / "blobs/docker/registry/v2/repositories"

    def clear(self) -> None:
        self.forge.releases.clear()
        self.forge.files.clear()
        for path in self.packages.iterdir():
            path.unlink()
        shutil.rmtree(self.repositories, ignore_errors=True)

    def image(self) -> str:
        """The digest of the image; empty without."""
        tags = self.repositories / "acme/tool/_manifests/tags/1.0/current/link"
        return tags.read_text() if tags.is_file() else ""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    need("task", "git", "skopeo", "docker-registry", "-m build", "-m setuptools", "-m twine")
    monkeypatch.setenv("FORGEJO_TOKEN", TOKEN)
    monkeypatch.setenv("PYPI_TOKEN", "pypi-token")
    (tmp_path / "packages").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path / 'blobs'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    command = [sys.executable, str(PROGRAM), str(tmp_path / "packages")]
    with (
        Service() as service,
        ForgejoReleases() as forge,
        subprocess.Popen(command, stdout=PIPE, stderr=DEVNULL, text=True) as server,
    ):
        assert server.stdout is not None
        service.start("docker-registry", "serve", str(config)).wait_ready(TcpPort(port))
        index = server.stdout.readline().strip()
        yield Places(tmp_path, forge, index, f"127.0.0.1:{port}")
        server.kill()


def project(top: Path, places: Places) -> Path:
    settings = {
        "targets": [{"os": "linux", "arch": "amd64"}],
        "builds": [
            {"name": "tool", "dir": "tool", "oci": {"image": f"{places.registry}/acme/tool"}},
            {"name": "app", "dir": "app", "build": {"flags": ["--no-isolation"]}},
        ],
        "publish": {
            "forgejo": {"repository": "acme/app", "url": places.forge.url},
            "pypi": places.index,
            "image": True,
        },
    }
    task = {"version": "3", "tasks": {"build": {"cmds": [LINE]}}}
    setup = "from setuptools import setup\nsetup(name='app', version='1.0', packages=[])\n"
    files = {
        ".core/build.yaml": json.dumps(settings),
        "tool/Taskfile.yml": json.dumps(task),
        "app/setup.py": setup,
    }
    made = repository(top, files, "v1.0")
    places.forge.tags["v1.0"] = git(made, "rev-parse", "HEAD")
    return made


def start(directory: Path) -> subprocess.Popen[bytes]:
    words = ("release", str(directory), "--publish", "--no-dry-run")
    return subprocess.Popen([*COMMAND, *words], stdout=DEVNULL, stderr=PIPE)


def check(places: Places, files: dict[str, bytes], *, complete: bool) -> None:
    """Check that whatever is visible is whole, and the release last."""
    published = places.forge.published()
    assert published in ({}, {"v1.0": files})
    uploaded = {path.name: path.read_bytes() for path in places.packages.iterdir()}
    wanted = {name: data for name, data in files.items() if name.startswith("app-1.0")}
    assert uploaded.items() <= wanted.items()
    assert places.image() in {"", digest_of(files["tool_oci.tar"])}
    if complete or published:
        assert published
        assert uploaded == wanted
        assert places.image()


def digest_of(image: bytes) -> str:
    """The digest that the file of an image has in a registry."""
    with tarfile.open(fileobj=io.BytesIO(image)) as archive:
        file = archive.extractfile("index.json")
        assert file is not None
        return str(json.load(file)["manifests"][0]["digest"])


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_a_killed_publication_shows_nothing_half_and_a_second_run_completes(
    places: Places, tmp_path: Path, number: signal.Signals
) -> None:
    app = project(tmp_path / "project", places)
    with start(app) as first:  # it builds the release as well
        assert first.wait() == 0, first.stderr and first.stderr.read()
    files = {path.name: path.read_bytes() for path in (app / "dist").iterdir() if path.is_file()}
    check(places, files, complete=True)
    chance = random.Random(number)  # noqa: S311 - the same moments each time
    began = time.monotonic()
    with start(app) as second:
        assert second.wait() == 0
    usual = 2 * (time.monotonic() - began)  # everything was there already
    kills = 0
    places.clear()
    while kills < KILLS:
        with start(app) as running:
            try:
                running.wait(chance.uniform(0.1, usual))
            except subprocess.TimeoutExpired:
                running.send_signal(number)
                kills += 1
            code = running.wait()
            said = (running.stderr.read() if running.stderr else b"").decode()
        assert code in {0, -number, 128 + number}, said
        check(places, files, complete=code == 0)
        if code == 0:
            usual = 0.9 * usual
            places.clear()
        else:
            usual = min(1.02 * usual, 60)
    with start(app) as last:
        assert last.wait() == 0
    check(places, files, complete=True)
    assert places.forge.violations == []
