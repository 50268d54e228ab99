"""Tokens of a GitHub App: short-lived, made when they are needed."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from core_infra.errors import NotFoundError, UnavailableError
from core_infra.jobrunner._forges.errors import ForgeAnswerError, ForgeUnavailableError

try:
    import httpx2
    import jwt
except ImportError as missing:
    raise UnavailableError(
        "cannot make tokens of a GitHub App",
        why="that needs httpx2 and PyJWT",
        todo="Install them with: pip install core-infra[jobs,app]",
    ) from missing

_LIFE = 540
"""Seconds: GitHub allows ten minutes, and clocks differ."""
_EARLY = timedelta(minutes=5)
_CREATED = 201
_NEVER = datetime.min.replace(tzinfo=UTC) + _EARLY


class AppToken:
    """The token of one installation of a GitHub App; a new one is made before it expires.

    Args:
        app: the id of the App, or its client id.
        installation: the id of the installation: one for each owner.
        key_file: the path of the App's private key, in PEM.
        url: the address of the API.
    """

    def __init__(
        self, app: str, installation: int, key_file: str | os.PathLike[str], url: str
    ) -> None:
        self._app = app
        self._installation = installation
        self._key_file = os.fspath(key_file)
        self._url = url.rstrip("/")
        self._lock = threading.Lock()
        self._made = ("", _NEVER)

    def __repr__(self) -> str:
        return f"AppToken(app={self._app!r}, installation={self._installation})"

    def read(self) -> str:
        """The token.

        Raises:
            NotFoundError: the private key cannot be read.
            ForgeUnavailableError: GitHub does not answer, or refuses.
            ForgeAnswerError: its answer is not as documented.
        """
        with self._lock:
            if datetime.now(UTC) > self._made[1] - _EARLY:
                self._made = self._make()
            return self._made[0]

    def __getstate__(self) -> dict[str, Any]:
        hidden = {"_lock", "_made"}
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._made = ("", _NEVER)

    def _make(self) -> tuple[str, datetime]:
        url = f"{self._url}/app/installations/{self._installation}/access_tokens"
        headers = {
            "Authorization": f"Bearer {self._signed()}",
            "Accept": "application/vnd.github+json",
            "User-Agent": "core-infra",
        }
        try:
            answer = httpx2.post(url, headers=headers, timeout=30)
        except httpx2.HTTPError as error:
            raise ForgeUnavailableError(f"POST {url} has no answer", why=str(error)) from None
        if answer.status_code != _CREATED:
            raise ForgeUnavailableError(
                f"POST {url} failed with status {answer.status_code}",
                why="GitHub makes no token for this App and installation",
                todo="Check the App's id, its installation and its key.",
            )
        try:
            found = answer.json()
            return str(found["token"]), datetime.fromisoformat(found["expires_at"])
        except (ValueError, KeyError, TypeError):
            raise ForgeAnswerError(f"the answer of {url} is not as documented") from None

    def _signed(self) -> str:
        now = int(time.time())
        claims = {"iat": now - 60, "exp": now + _LIFE, "iss": self._app}
        try:
            return jwt.encode(claims, Path(self._key_file).read_text("ascii"), algorithm="RS256")
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise NotFoundError(
                "there is no private key for the GitHub App",
                why=f"{self._key_file}: {type(error).__name__}",
                todo="Download one in the settings of the App.",
            ) from None
