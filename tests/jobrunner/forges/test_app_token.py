"""A GitHub App: its key signs a request for a token, and the client uses that token."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from core_infra.errors import NotFoundError
from core_infra.jobrunner import EpicSource, ForgeUnavailableError, GitHub
from core_infra.jobrunner._forges.app_token import AppToken
from jobs.api_server import Reply, Request, moment
from jobs.github_server import GitHubServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP, INSTALLATION = "12345", 678
LONG, SHORT = timedelta(hours=1), timedelta(minutes=4)


class Installation:
    """What GitHub does with requests of an App: it takes its signature only, and its tokens."""

    def __init__(self, key: rsa.RSAPublicKey) -> None:
        self.key = key
        self.made: list[str] = []
        self.life = LONG

    def __call__(self, request: Request) -> Reply | None:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if request.line != f"POST /app/installations/{INSTALLATION}/access_tokens":
            is_known = kind.lower() in {"bearer", "token"} and given in self.made[-1:]
            return None if is_known else Reply(401, {"message": "Bad credentials"})
        try:
            claims = jwt.decode(given, self.key, algorithms=["RS256"], issuer=APP)
        except jwt.PyJWTError as error:
            return Reply(401, {"message": str(error)})
        if claims["exp"] - datetime.now(UTC).timestamp() > 600:
            return Reply(401, {"message": "'Expiration time' claim is too far in the future"})
        self.made.append(f"ghs_{len(self.made)}")
        expires = moment(datetime.now(UTC) + self.life)
        return Reply(201, {"token": self.made[-1], "expires_at": expires})


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def key_file(key: rsa.RSAPrivateKey, tmp_path: Path) -> Path:
    path = tmp_path / "app.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,  # as GitHub's downloads
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def server(key: rsa.RSAPrivateKey) -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.add_issue(1, body="- [ ] #42", labels=["epic"])
        server.add_issue(42, assignees=["ann"])
        server.override = Installation(key.public_key())
        yield server
        assert server.violations == []


def test_an_app_polls_with_one_token_for_an_hour(server: GitHubServer, key_file: Path) -> None:
    token = AppToken(APP, INSTALLATION, key_file, server.url)
    forge = GitHub(token, server.url, pause=0)
    source = EpicSource(forge, "acme", "widgets")
    assert [signal.child_number for signal in source.poll() if signal.child_number] == [42]
    source.poll()
    forge.close()
    assert isinstance(server.override, Installation)
    assert server.override.made == ["ghs_0"]
    assert "ghs_0" not in repr(token)
    assert b"ghs_0" not in pickle.dumps(token)


def test_a_token_that_expires_soon_is_replaced(server: GitHubServer, key_file: Path) -> None:
    assert isinstance(server.override, Installation)
    server.override.life = SHORT
    token = AppToken(APP, INSTALLATION, key_file, server.url)
    assert [token.read(), token.read()] == ["ghs_0", "ghs_1"]
    server.override.life = LONG
    assert [token.read(), token.read()] == ["ghs_2", "ghs_2"]
    assert copy.copy(token).read() == "ghs_3"


def test_another_key_is_refused(server: GitHubServer, key_file: Path) -> None:
    assert isinstance(server.override, Installation)
    server.override.key = rsa.generate_private_key(
        public_exponent=65537, key_size=2048
    ).public_key()
    with pytest.raises(ForgeUnavailableError, match="failed with status 401"):
        AppToken(APP, INSTALLATION, key_file, server.url).read()


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN RSA PRIVATE KEY-----\n\xff"])
def test_a_key_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "app.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotFoundError, match=r"there is no private key .*app\.pem"):
        AppToken(APP, INSTALLATION, path, "http://127.0.0.1:9").read()
