"""Fetching images from the mirrors that registries.conf names."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from core_infra.errors import CoreInfraError, InvalidError, UnavailableError
from core_infra.vm._images.oci import mirrors
from core_infra.vm._images.oci.manifest import OciImage, fetch
from core_infra.vm._images.oci.mirrors import Mirrors, Source, find_sources
from core_infra.vm._images.oci.reference import parse_reference
from core_infra.vm._images.oci.store import Store
from oci_registry import Answer, FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mirrors, "_SYSTEM", tmp_path / "etc")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    monkeypatch.delenv("CONTAINERS_REGISTRIES_CONF", raising=False)
    path = tmp_path / "own" / "containers" / "registries.conf"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def mirror(tmp_path: Path, fake: FakeRegistry) -> Iterator[FakeRegistry]:
    with FakeRegistry(tmp_path / "mirror") as mirror:
        mirror.blobs, mirror.digest, mirror.layer = fake.blobs, fake.digest, fake.layer
        yield mirror


def pull(name: str, store: Store) -> OciImage:
    reference = parse_reference(name)
    origin = Mirrors(reference, lambda _line: None)
    return fetch(origin, reference.version, "x86_64", store, lambda _line: None)


def test_a_mirror_is_asked_first_and_gets_only_its_own_password(
    fake: FakeRegistry,
    mirror: FakeRegistry,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def auth(user: str) -> dict[str, str]:
        return {"auth": base64.b64encode(f"{user}:secret".encode()).decode()}

    auths = {"auths": {fake.address: auth("ours"), mirror.address: auth("theirs")}}
    (tmp_path / "auth.json").write_text(json.dumps(auths))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    config.write_text(
        f'[[registry]]\nlocation = "{fake.address}"\n'
        f'[[registry.mirror]]\nlocation = "{mirror.address}/proxy/"\n'
    )

    def answer(path: str, headers: dict[str, str]) -> Answer | None:
        if "authorization" not in headers:
            return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
        return None if "/manifests/" in path else (404, {}, b"")  # it lacks the blobs

    fake.answer = lambda _path, headers: answer("/manifests/", headers)
    mirror.answer = answer
    assert pull(fake.name, Store(tmp_path / "s")).digest == fake.digest
    assert mirror.seen[0][0] == "/v2/proxy/app/manifests/v1"
    for registry, user in ((mirror, "theirs"), (fake, "ours")):
        given = {given for _, given in registry.seen}
        assert given == {"", f"Basic {auth(user)['auth']}"}


def test_if_all_places_fail_they_are_named_with_the_file(
    fake: FakeRegistry, mirror: FakeRegistry, config: Path, tmp_path: Path
) -> None:
    config.write_text(
        f'[[registry]]\nprefix = "registry.example/team"\nlocation = "{fake.address}"\n'
        f'[[registry.mirror]]\nlocation = "{mirror.address}"\n'
    )
    mirror.answer = lambda _path, _headers: (500, {}, b"")
    fake.answer = lambda _path, _headers: (404, {}, b"")
    with pytest.raises(UnavailableError) as caught:
        pull("registry.example/team/app", Store(tmp_path / "s"))
    assert f"{mirror.address}/app:latest: the registry answers 500" in str(caught.value)
    assert f"no image {fake.address}/app:latest" in str(caught.value)
    assert str(config) in str(caught.value)


def test_an_insecure_registry_may_lack_tls(config: Path, tmp_path: Path) -> None:
    with FakeRegistry(tmp_path / "plain", "127.0.0.2") as plain:
        with pytest.raises(UnavailableError, match="cannot reach the registry"):
            pull(plain.name, Store(tmp_path / "s"))
        config.write_text(f'[[registry]]\nlocation = "{plain.address}"\ninsecure = true\n')
        assert pull(plain.name, Store(tmp_path / "s")).digest == plain.digest


def test_the_longest_prefix_applies_and_later_files_replace_earlier_ones(
    config: Path, tmp_path: Path
) -> None:
    config.write_text(
        """
        unqualified-search-registries = ["example.org"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "hub.example"
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/acme"
        location = "own.example/x"
        [[registry]]
        prefix = "*.internal"
        insecure = true
        [[registry]]
        location = "replaced.example"
        blocked = true
        """
    )
    later = tmp_path / "etc" / "registries.conf.d"
    later.mkdir(parents=True)
    (later / "10.conf").write_text('[[registry]]\nlocation = "replaced.example"\n')

    def places(name: str) -> list[str]:
        sources, _ = find_sources(parse_reference(name))
        return [str(one.reference) for one in sources]

    assert places("nginx") == ["hub.example/library/nginx:latest", "docker.io/library/nginx:latest"]
    digest = f"sha256:{'a' * 64}"
    assert [each.partition("/")[0] for each in places(f"nginx@{digest}")] == [
        "hub.example",
        "digests.example",
        "docker.io",
    ]
    assert places("acme/app:1") == ["own.example/x/app:1"]
    assert places("acmes/app:1")[-1] == "docker.io/acmes/app:1"
    assert places("replaced.example/a") == ["replaced.example/a:latest"]
    assert places("other.example/a") == ["other.example/a:latest"]
    internal = parse_reference("a.b.internal/x")
    assert find_sources(internal)[0] == [Source(internal, insecure=True)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[registry]]\nlocation = "docker.io"\nblocked = true', "cannot fetch .*blocks docker.io"),
        ("[[registry", "cannot read .*registries.conf"),
        ("registry = 1", "must be an array of tables"),
        ("[[registry]]", "needs a location"),
        ("[[registry]]\nlocation = 1", "location must be a text"),
        ('[[registry]]\nlocation = "a"\ninsecure = "yes"', "insecure must be true or false"),
        ('[[registry]]\nlocation = "a"\nmirror = [{}]', "a mirror needs a location"),
    ],
)
def test_a_mistake_in_the_file_is_one_clear_error(config: Path, text: str, message: str) -> None:
    config.write_text(text)
    with pytest.raises(CoreInfraError, match=message) as caught:
        find_sources(parse_reference("nginx"))
    assert isinstance(caught.value, InvalidError)
    assert str(config) in str(caught.value)
