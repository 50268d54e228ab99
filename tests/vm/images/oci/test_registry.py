"""Fetching images: from a real registry, and from one that misbehaves."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from core_infra._host import SHORT_NAMES
from core_infra.errors import CoreInfraError, InvalidError, NotFoundError, UnavailableError
from core_infra.process import Service, TcpPort
from core_infra.vm._images.default import apt
from core_infra.vm._images.image import host_arch
from core_infra.vm._images.oci.credentials import Credentials, find_credentials
from core_infra.vm._images.oci.manifest import OciImage, fetch
from core_infra.vm._images.oci.reference import Reference, parse_reference
from core_infra.vm._images.oci.registry import Registry
from core_infra.vm._images.oci.store import Store
from oci_images import Entry, layer, write_layout
from oci_registry import Answer, FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nginx", Reference("docker.io", "library/nginx", "latest")),
        ("nginx:1.27", Reference("docker.io", "library/nginx", "1.27")),
        ("acme/app", Reference("docker.io", "acme/app", "latest")),
        ("ghcr.io/acme/app:v1", Reference("ghcr.io", "acme/app", "v1")),
        ("localhost/x", Reference("localhost", "x", "latest")),
        ("127.0.0.1:5000/a/b:t", Reference("127.0.0.1:5000", "a/b", "t")),
        (f"x@sha256:{'a' * 64}", Reference("docker.io", "library/x", "", f"sha256:{'a' * 64}")),
        (f"x:t@sha256:{'a' * 64}", Reference("docker.io", "library/x", "t", f"sha256:{'a' * 64}")),
    ],
)
def test_names_mean_what_they_mean_to_docker(text: str, found: Reference) -> None:
    assert parse_reference(text) == found


@pytest.mark.parametrize(
    "text",
    ["", "UPPER", "a:", "a:b:c", "a@sha256:12", "a//b", "-a", "host.x/", "a b", "x/../y", "ü"],
)
def test_what_is_not_a_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="does not name an image"):
        parse_reference(text)


def say_nothing(_line: str) -> None:
    pass


def pull(name: str, store: Store, credentials: Credentials | None = None) -> OciImage:
    reference = parse_reference(name)
    origin = Registry(reference, lambda _host: credentials, say_nothing)
    return fetch(origin, reference.version, "x86_64", store, say_nothing)


def registry_program(directory: Path) -> str:
    """Debian's registry, unpacked: if installed, it would be a service that runs from then on."""
    found = shutil.which("docker-registry")
    if found is None:
        fetched = apt.fetch(
            ["docker-registry"],
            SHORT_NAMES[host_arch()],
            directory=directory / "packages",
            state=directory / "apt",
            progress=say_nothing,
        )
        for path in fetched.values():
            subprocess.run(["dpkg-deb", "--extract", path, directory], check=True)
        found = str(directory / "usr" / "bin" / "docker-registry")
    return found


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_a_real_registry(tmp_path: Path) -> None:
    digest = write_layout(
        tmp_path / "layout",
        [layer([Entry("a", data=b"1")]), layer([Entry("b", data=b"2" * 100_000)])],
        config={"Env": ["A=b=c"], "Cmd": ["/bin/x"], "User": "7"},
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "config.yml"
    config.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'blobs'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', relativeurls: true}}\n"
    )
    with Service() as service:
        registry = service.start(registry_program(tmp_path), "serve", str(config))
        registry.wait_ready(TcpPort(port))
        target = f"127.0.0.1:{port}/team/app"
        copy = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}:latest"]
        subprocess.run([*copy, f"docker://{target}:v1"], check=True, capture_output=True)

        store = Store(tmp_path / "store")
        image = pull(f"{target}:v1", store)

        assert image.digest == digest
        assert (image.run.env, image.run.cmd, image.run.user) == ({"A": "b=c"}, ("/bin/x",), "7")
        assert all(store.has(one.digest) for one in image.layers)
        assert pull(f"{target}@{digest}", Store(tmp_path / "other")).digest == digest
        with pytest.raises(NotFoundError, match=rf"no image {target}:none: .*404.*unknown"):
            pull(f"{target}:none", store)
    with pytest.raises(UnavailableError, match="cannot reach the registry"):
        pull(f"{target}:v1", Store(tmp_path / "third"))


def test_a_token_is_fetched_with_the_password(fake: FakeRegistry, tmp_path: Path) -> None:
    def answer(path: str, headers: dict[str, str]) -> Answer | None:
        if path.startswith("/token"):
            return 200, {}, json.dumps({"token": "t0ken"}).encode()
        if headers.get("authorization") == "Bearer t0ken":
            return None
        challenge = f'Bearer realm="http://{fake.address}/token",service="reg",scope="pull:app"'
        return 401, {"WWW-Authenticate": challenge}, b""

    fake.answer = answer
    pull(fake.name, Store(tmp_path / "s"), Credentials("joe", "secret"))
    (asked,) = [one for one in fake.seen if one[0].startswith("/token")]
    assert asked[0] == "/token?scope=pull%3Aapp&service=reg"
    assert asked[1] == f"Basic {base64.b64encode(b'joe:secret').decode()}"
    assert all("Basic" not in given for path, given in fake.seen if not path.startswith("/token"))


def test_a_password_is_given_if_it_is_asked_for(fake: FakeRegistry, tmp_path: Path) -> None:
    def answer(_path: str, headers: dict[str, str]) -> Answer | None:
        if "authorization" in headers:
            return None
        return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""

    fake.answer = answer
    image = pull(fake.name, Store(tmp_path / "s"), Credentials("joe", "secret"))
    assert image.digest == fake.digest


def test_nothing_secret_goes_along_a_redirection(fake: FakeRegistry, tmp_path: Path) -> None:
    def answer(path: str, headers: dict[str, str]) -> Answer | None:
        if "authorization" not in headers:
            return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
        if "/blobs/" in path:
            return 307, {"Location": f"http://{other.address}{path}?signed=1"}, b""
        return None

    with FakeRegistry(tmp_path / "other") as other:
        other.blobs = fake.blobs
        fake.answer = answer
        other.answer = lambda path, _headers: other.right(path.partition("?")[0])
        pull(fake.name, Store(tmp_path / "s"), Credentials("joe", "secret"))
    assert len(other.seen) == 2
    assert {given for _, given in other.seen} == {""}


def test_a_cut_body_is_gone_on_with(fake: FakeRegistry, tmp_path: Path) -> None:
    ranges = []

    def answer(path: str, headers: dict[str, str]) -> Answer | None:
        if not path.endswith(fake.layer):
            return None
        data = fake.blobs[fake.layer]
        start = int(headers.get("range", "bytes=0-")[6:-1])
        ranges.append(start)
        piece = data[start : start + 100_000]
        length = {
            "Content-Length": str(len(data) - start),
            "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}",
        }
        return (206 if start else 200), length, piece

    fake.answer = answer
    store = Store(tmp_path / "s")
    pull(fake.name, store)
    assert len(ranges) > 2
    assert store.path(fake.layer).read_bytes() == fake.blobs[fake.layer]


def test_a_busy_registry_is_asked_again(fake: FakeRegistry, tmp_path: Path) -> None:
    refused = iter([429, 503, 500])

    def answer(path: str, _headers: dict[str, str]) -> Answer | None:
        status = next(refused, None) if "/manifests/" in path else None
        return None if status is None else (status, {"Retry-After": "1"}, b"")

    fake.answer = answer
    assert pull(fake.name, Store(tmp_path / "s")).digest == fake.digest


def always(status: int, data: bytes = b"", **headers: str) -> Callable[[FakeRegistry], None]:
    def prepare(fake: FakeRegistry) -> None:
        own = {key.replace("_", "-"): value for key, value in headers.items()}
        fake.answer = lambda _path, _headers: (status, dict(own), data)

    return prepare


def blob(data: Callable[[bytes], bytes], **headers: str) -> Callable[[FakeRegistry], None]:
    def prepare(fake: FakeRegistry) -> None:
        def answer(path: str, _headers: dict[str, str]) -> Answer | None:
            if not path.endswith(fake.layer):
                return None
            own = {key.replace("_", "-"): value for key, value in headers.items()}
            return 200, own, data(fake.blobs[fake.layer])

        fake.answer = answer

    return prepare


def part(data: bytes, place: str) -> Callable[[FakeRegistry], None]:
    """Half of a blob, and then this, as from that place."""

    def prepare(fake: FakeRegistry) -> None:
        def answer(path: str, headers: dict[str, str]) -> Answer | None:
            if not path.endswith(fake.layer):
                return None
            whole = len(fake.blobs[fake.layer])
            if "range" not in headers:
                return 200, {"Content-Length": str(whole)}, fake.blobs[fake.layer][:150_000]
            start = int(headers["range"][6:-1])
            return 206, {"Content-Range": place.format(start=start, size=whole)}, data

        fake.answer = answer

    return prepare


def token(data: bytes, status: int = 200) -> Callable[[FakeRegistry], None]:
    def prepare(fake: FakeRegistry) -> None:
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{fake.address}/token"'}
        fake.answer = lambda path, _headers: (
            (status, {}, data) if path.startswith("/token") else (401, dict(challenge), b"")
        )

    return prepare


DENIED = b'{"errors": [{"code": "DENIED", "message": "not\\nyou"}]}'
FAULTS: dict[str, tuple[Callable[[FakeRegistry], None], type[CoreInfraError], str]] = {
    "401 whatever is given": (token(b'{"token": "x"}'), UnavailableError, "answers 401.*Log in"),
    "401 that asks for nothing": (always(401), UnavailableError, "answers 401"),
    "403": (always(403, DENIED), UnavailableError, "403: DENIED not you\nLog in: docker login"),
    "429 for ever": (always(429, Retry_After="5"), UnavailableError, "answers 429"),
    "429 for too long": (always(429, Retry_After="5000"), UnavailableError, "answers 429"),
    "500 for ever": (always(500), UnavailableError, "answers 500"),
    "a circle": (always(302, Location="/v2/x"), InvalidError, "leads in a circle"),
    "to a file": (always(302, Location="file:///etc/passwd"), InvalidError, "is not followed"),
    "no JSON": (always(200, b"<html>"), InvalidError, "manifest is not JSON"),
    "a list": (always(200, b"[]"), InvalidError, "must be an object"),
    "no layers": (always(200, b"{}"), InvalidError, "layers must be a list"),
    "a manifest for ever": (always(200, b" " * (5 << 20)), InvalidError, "is too long"),
    "half a manifest": (
        always(200, b'{"layers": [', Content_Length="30000"),
        UnavailableError,
        "is cut off: 12 bytes came, and 29988 are missing",
    ),
    "another manifest": (
        always(200, b"{}", Docker_Content_Digest=f"sha256:{'0' * 64}"),
        InvalidError,
        "not what its digest says",
    ),
    "a token for ever": (token(b" " * (5 << 20)), InvalidError, "is too long"),
    "no token": (token(b"{}"), InvalidError, "no token came"),
    "a token of two lines": (token(b'{"token": "a\\nb"}'), InvalidError, "no token came"),
    "no right to a token": (token(b"", 403), UnavailableError, "answers 403"),
    "another blob": (blob(lambda data: b"x" * len(data)), InvalidError, "not what its digest says"),
    "a blob for ever": (blob(lambda data: data * 2), InvalidError, "is too long"),
    "another part of a blob": (
        part(b"x" * 9, "bytes 0-8/{size}"),
        UnavailableError,
        "150000 came: another part came: bytes 0-8/",
    ),
    "a blob byte by byte": (
        part(b"x", "bytes {start}-{start}/{size}"),
        UnavailableError,
        "cannot fetch all of .* came: the connection has ended",
    ),
    "half a blob": (
        blob(lambda data: data[:1000], Content_Length="300000"),
        UnavailableError,
        "cannot fetch all of .* 1000 came",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_clear_error_and_leaves_nothing(
    fake: FakeRegistry, tmp_path: Path, name: str
) -> None:
    prepare, kind, message = FAULTS[name]
    prepare(fake)
    store = Store(tmp_path / "store")
    with pytest.raises(kind, match=f"(?s){message}"):
        pull(fake.name, store)
    kept = [
        path for path in store.root.rglob("*") if path.is_file() and path.parent.name == "sha256"
    ]
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in kept)
    assert not list(store.root.glob(".part-*"))
    assert len(fake.seen) < 20


def test_an_index_is_of_platforms_not_of_attestations(fake: FakeRegistry, tmp_path: Path) -> None:
    manifest = fake.blobs[fake.digest]

    def entry(digest: str, system: str, machine: str) -> dict[str, Any]:
        platform = {"os": system, "architecture": machine}
        return {"digest": digest, "size": len(manifest), "platform": platform}

    wrong = f"sha256:{'0' * 64}"
    entries = [entry(wrong, "unknown", "unknown"), entry(wrong, "linux", "arm64")]
    data = json.dumps({"manifests": [*entries, entry(fake.digest, "linux", "amd64")]}).encode()
    fake.answer = lambda path, _headers: (200, {}, data) if path.endswith("v1") else None
    assert pull(fake.name, Store(tmp_path / "s")).digest == fake.digest

    data = json.dumps({"manifests": entries}).encode()
    with pytest.raises(NotFoundError, match=r"no version for linux/amd64: it has linux/arm64"):
        pull(fake.name, Store(tmp_path / "t"))


def test_passwords_are_found_where_docker_and_podman_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert find_credentials("ghcr.io") is None

    auth = base64.b64encode(b"joe:se:cret").decode()
    config = {
        "auths": {"https://index.docker.io/v1/": {"auth": auth}, "ghcr.io": {"username": "u"}},
        "credHelpers": {"gcr.io": "stub", "none.io": "stub"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    helper = tmp_path / "docker-credential-stub"
    helper.write_text(
        '#!/bin/sh\nread -r host\n[ "$host" = gcr.io ] || { echo credentials not found; exit 1; }\n'
        'echo \'{"Username": "<token>", "Secret": "idt"}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_credentials("docker.io") == Credentials("joe", "se:cret")
    assert find_credentials("ghcr.io") == Credentials("u", "")
    assert find_credentials("gcr.io") == Credentials("", "", "idt")
    assert find_credentials("none.io") is None
    assert "cret" not in repr(find_credentials("docker.io"))

    for text in ("{", "[]", '{"auths": []}', '{"auths": {"ghcr.io": {"auth": "%"}}}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InvalidError, match=r"config\.json is"):
            find_credentials("ghcr.io")
