"""Names and passwords of registries, from where ``docker login`` and ``podman login`` keep them."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_infra.errors import InvalidError, UnavailableError
from core_infra.vm._images.oci.reference import DOCKER_HUB

_HUB = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9_.-]+")
_TOKEN_USER = "<token>"  # noqa: S105 - says that the secret is a token
_TIMEOUT = 60


@dataclass(frozen=True, repr=False)
class Credentials:
    """A name and password, or a token that stands for them."""

    user: str
    password: str
    identity_token: str = ""

    def basic(self) -> str:
        """Return the header for HTTP's basic authentication."""
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


def find_credentials(host: str) -> Credentials | None:
    """Return the credentials for a registry; None if there are none.

    The first file that has some wins: ``$REGISTRY_AUTH_FILE``, podman's, docker's
    (``$DOCKER_CONFIG/config.json``, otherwise ``~/.docker/config.json``).

    Raises:
        InvalidError: a file is malformed.
        UnavailableError: a credential helper that a file names fails.
    """
    key = _HUB if host == DOCKER_HUB else host
    for path in _files():
        config = _read(path)
        helper = config.get("credHelpers", {}).get(key) or config.get("credsStore")
        if helper and (found := _ask(helper, key, path)) is not None:
            return found
        for name, entry in config.get("auths", {}).items():
            if _host(name) == _host(key) and (found := _credentials(entry, name, path)) is not None:
                return found
    return None


def _files() -> list[Path]:
    files = []
    if chosen := os.environ.get("REGISTRY_AUTH_FILE"):
        files.append(Path(chosen))
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        files.append(Path(runtime, "containers", "auth.json"))
    docker = os.environ.get("DOCKER_CONFIG")
    files.append(Path(docker or Path.home() / ".docker") / "config.json")
    return files


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InvalidError(f"cannot read {path}", why=error.strerror or str(error)) from error
    except ValueError as error:
        raise InvalidError(f"{path} is not JSON", why=str(error)) from error
    tables = ("auths", "credHelpers")
    if not isinstance(config, dict) or any(
        not isinstance(config.get(table, {}), dict) for table in tables
    ):
        raise InvalidError(f"{path} is malformed", why=f"{' and '.join(tables)} must be objects")
    return config


def _host(name: str) -> str:
    """Return the host of an entry's name, which may be an address."""
    return re.sub(r"^https?://", "", name).split("/")[0]


def _credentials(entry: object, name: str, path: Path) -> Credentials | None:
    if not isinstance(entry, dict):
        raise InvalidError(f"{path} is malformed", why=f"the entry of {name} must be an object")
    token = entry.get("identitytoken") or ""
    if auth := entry.get("auth"):
        try:
            user, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (TypeError, ValueError, binascii.Error) as error:
            raise InvalidError(
                f"{path} is malformed", why=f"auth of {name} is not base64"
            ) from error
        return Credentials(user, password.rstrip("\0"), token)
    if entry.get("username") or token:
        return Credentials(entry.get("username") or "", entry.get("password") or "", token)
    return None


def _ask(helper: object, key: str, path: Path) -> Credentials | None:
    """Ask a credential helper, by the protocol of docker-credential-helpers."""
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        raise InvalidError(f"{path} is malformed", why=f"{helper!r} is not the name of a helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(
            f"cannot get the password for {key}",
            why=f"{path} names the program {program}: {error}",
            todo="Install it, or remove it from that file.",
        ) from error
    if done.returncode:
        if b"not found" in done.stdout.lower():
            return None
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise UnavailableError(f"cannot get the password for {key}", why=f"{program}: {said[:300]}")
    try:
        found = json.loads(done.stdout)
        user, secret = found["Username"], found["Secret"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(
            f"cannot get the password for {key}", why=f"{program} answers something else"
        ) from error
    return Credentials("", "", secret) if user == _TOKEN_USER else Credentials(user, secret)
