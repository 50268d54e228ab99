"""An OCI image of the programs of a release, and its way to a registry."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from build_samples import need
from build_support import accepts
from core_infra.build._artifact import Target
from core_infra.build._config.load import load_config
from core_infra.build._errors import ConfigError, PublishError
from core_infra.build._pipeline import carry_out
from core_infra.build._preflight import make_plan
from core_infra.build._publish.registry import push_image
from core_infra.errors import InvalidError
from core_infra.medium._memory import MemoryMedium
from core_infra.process import Service, TcpPort

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGETS = [Target("linux", "amd64"), Target("linux", "arm64"), Target("windows", "amd64")]
SCRIPT = 'echo "{{.GOARCH}}" > "{{.OUTPUT_DIR}}/tool"; chmod +x "{{.OUTPUT_DIR}}/tool"'


def project(directory: Path, **oci: object) -> Path:
    need("task")
    (directory / ".core").mkdir(parents=True)
    settings = {"oci": {"image": "ghcr.io/acme/app", "files": {"app.conf": "/etc/app.conf"}, **oci}}
    (directory / ".core" / "build.yaml").write_text(json.dumps(settings))
    (directory / "Taskfile.yml").write_text(
        json.dumps({"version": "3", "tasks": {"build": {"cmds": [SCRIPT]}}})
    )
    (directory / "app.conf").write_text("x=1\n")
    return directory


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    app = project(tmp_path_factory.mktemp("image") / "app")
    plan = make_plan(app, goal="release", targets=TARGETS, version="v1.2.0")
    return carry_out(plan, twice=True).directory / "app_oci.tar"


def test_skopeo_reads_each_platform(image: Path, tmp_path: Path) -> None:
    need("skopeo")
    assert "  app_oci.tar\n" in image.with_name("CHECKSUMS.txt").read_text()
    index = json.loads(accepts("skopeo", "inspect", "--raw", f"oci-archive:{image}"))
    platforms = [one["platform"] for one in index["manifests"]]
    assert platforms == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
    ]
    config = json.loads(
        accepts("skopeo", "--override-arch=arm64", "inspect", "--config", f"oci-archive:{image}")
    )
    assert config["config"]["Entrypoint"] == ["/usr/bin/tool"]
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == "v1.2.0"
    layout = tmp_path / "layout"
    copy = ("skopeo", "--override-arch=arm64", "copy", "--quiet")
    accepts(*copy, f"oci-archive:{image}", f"dir:{layout}")
    layer = json.loads((layout / "manifest.json").read_text())["layers"][0]["digest"]
    with tarfile.open(layout / layer.partition(":")[2]) as archive:
        assert archive.getnames() == ["etc", "etc/app.conf", "usr", "usr/bin", "usr/bin/tool"]
        tool = archive.extractfile("usr/bin/tool")
        assert tool is not None
        assert tool.read() == b"arm64\n"
        assert archive.getmember("usr/bin/tool").mode == 0o755


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    need("skopeo", "docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path / 'blobs'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with Service() as service:
        service.start("docker-registry", "serve", str(config)).wait_ready(TcpPort(port))
        yield f"127.0.0.1:{port}/acme/app"


def test_an_image_is_pushed_once(image: Path, registry: str, tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        push_image(image, f"{registry}:1.2.0", report=said.append)
    assert said == [
        f"push app_oci.tar to {registry}:1.2.0",
        f"{registry}:1.2.0 is there already",
    ]
    inspect = ("skopeo", "inspect", "--tls-verify=false", "--raw")
    pushed = json.loads(accepts(*inspect, f"docker://{registry}:1.2.0"))
    assert len(pushed["manifests"]) == 2
    other = project(tmp_path / "app", files={})
    made = carry_out(make_plan(other, goal="package", targets=TARGETS[:1], version="v1.2.0"))
    with pytest.raises(PublishError, match="is already there: it is sha256"):
        push_image(made.directory / "app_oci.tar", f"{registry}:1.2.0", report=said.append)


def test_a_registry_that_is_not_there_is_one_error(image: Path) -> None:
    need("skopeo")
    with pytest.raises(PublishError, match=r"cannot push to 127\.0\.0\.1:1/app:1"):
        push_image(image, "127.0.0.1:1/app:1", report=print)


def test_problems_and_mistakes(tmp_path: Path) -> None:
    app = project(tmp_path / "app", files={"missing": "/etc/x"}, entrypoint="other")
    plan = make_plan(app, goal="package", targets=TARGETS[:1])
    assert plan.problems == ("oci.files: missing does not exist",)
    (app / "missing").touch()
    with pytest.raises(InvalidError, match="no program other: it has tool"):
        carry_out(make_plan(app, goal="package", targets=TARGETS[:1]))
    for given, why in (
        ({"image": "App"}, "an image with its registry"),
        ({"image": "ghcr.io/acme/app:latest"}, "an image with its registry"),
        ({"files": {"a": "b"}}, "absolute path"),
    ):
        medium = MemoryMedium()
        medium.write_text(".core/build.yaml", json.dumps({"oci": given}))
        with pytest.raises(ConfigError, match=why):
            load_config(medium, ".")


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
def test_a_go_program_runs_from_the_layer(tmp_path: Path) -> None:
    app = tmp_path / "app"
    (app / ".core").mkdir(parents=True)
    (app / ".core" / "build.yaml").write_text("oci: {image: ghcr.io/acme/app}\n")
    (app / "go.mod").write_text("module x\n")
    (app / "main.go").write_text('package main\n\nfunc main() { print("hi") }\n')
    made = carry_out(make_plan(app, goal="package", targets=[Target("linux", "amd64")]))
    with tarfile.open(made.directory / "x_oci.tar") as archive:
        archive.extractall(tmp_path / "layout", filter="data")
    blobs = sorted((tmp_path / "layout/blobs/sha256").iterdir(), key=lambda one: one.stat().st_size)
    with tarfile.open(blobs[-1]) as layer:
        layer.extractall(tmp_path / "root", filter="data")
    done = subprocess.run([tmp_path / "root/usr/bin/x"], capture_output=True, check=True)
    assert done.stderr == b"hi"
