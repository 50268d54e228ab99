"""Sends requests to the HTTP API of a forge; the token goes to one origin only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2

from core_infra.build._errors import PublishError, PublishInterruptedError
from core_infra.build._secret import origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core_infra.build._secret import Secret

_TIMEOUT = httpx2.Timeout(30.0, read=120.0, write=120.0)
_CHUNK = 1 << 16
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHOWN = 300
_NOT_FOUND = 404


class ApiClient:
    """One forge's API.

    Args:
        url: the address of the API, without a slash at its end.
        token: the token.
        also: another address that may get the token: GitHub's for uploads.
        report: called with each request that changes something, as text, before it is sent.
    """

    def __init__(
        self, url: str, token: Secret, *, also: str = "", report: Callable[[str], object]
    ) -> None:
        self.url = url
        self._token = token
        self._origins = {origin(one) for one in (url, also) if one}
        self._report = report
        self._client = httpx2.Client(timeout=_TIMEOUT, follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, **query: object) -> Any:
        """Get something; None if it does not exist.

        Raises:
            PublishInterruptedError: there was no usable answer; it may be repeated.
            PublishError: the forge refuses.
        """
        found, response = self._send("GET", self.url + path, params=query, missing=True)
        return None if response.status_code == _NOT_FOUND else found

    def pages(self, path: str, size: tuple[str, int]) -> Iterator[Any]:
        """Get a list, page by page; raises as :meth:`get` does."""
        name, count = size
        for page in range(1, 1000):
            found = self.get(path, **{name: count, "page": page})
            if not isinstance(found, list):
                raise PublishError(f"{self.url}{path} has no list of releases")
            yield from found
            if not found:
                return

    def change(self, method: str, path: str, content: object = None) -> Any:
        """Change something; raises as :meth:`get` does."""
        url = self.url + path
        self._report(described(method, url, content))
        more: dict[str, Any] = {} if content is None else {"json": content}
        return self._send(method, url, missing=method == "DELETE", **more)[0]

    def upload(self, url: str, name: str, file: Path) -> Any:
        """Upload a file; raises as :meth:`get` does."""
        size = file.stat().st_size
        self._report(f"POST {url}?name={name} ({size} bytes)")
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with file.open("rb") as data:
            chunks = iter(lambda: data.read(_CHUNK), b"")
            return self._send("POST", url, params={"name": name}, content=chunks, headers=headers)[
                0
            ]

    def _send(
        self,
        method: str,
        url: str,
        *,
        missing: bool = False,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> tuple[Any, httpx2.Response]:
        what = f"{method} {url}"
        if origin(url) not in self._origins:
            raise PublishError(
                f"{what} was not sent", why=f"the token is for {self.url}, not for this address"
            )
        own = {
            "Authorization": f"Bearer {self._token.value}",
            "Accept": "application/json",
            "User-Agent": "core-infra",
        }
        try:
            response = self._client.request(method, url, headers=own | (headers or {}), **options)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise PublishInterruptedError(
                f"{what} has no answer", why=f"{type(error).__name__}: {self._clean(str(error))}"
            ) from None  # the error has the request, and so the token
        status = response.status_code
        if response.is_success or (missing and status == _NOT_FOUND):
            return self._content(what, response), response
        why = f"status {status}: {self._clean(response.text[:_SHOWN])}"
        if status in _PASSING or _is_limited(response):
            raise PublishInterruptedError(
                f"{what} failed", why=why, wait=_delay(response), status=status
            )
        raise PublishError(f"{what} failed", why=why, status=status)

    def _content(self, what: str, response: httpx2.Response) -> Any:
        if not response.content:
            return None
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError):
            raise PublishError(f"the answer to {what} is not JSON") from None

    def _clean(self, text: str) -> str:
        return text.replace(self._token.value, "***") if self._token else text


def described(method: str, url: str, content: object = None) -> str:
    """A request as text."""
    body = "" if content is None else f" {json.dumps(content, ensure_ascii=False)}"
    return f"{method} {url}{body}"


def _is_limited(response: httpx2.Response) -> bool:
    """Whether this is GitHub's answer to too many requests, which has the status 403."""
    limited = response.headers.get("x-ratelimit-remaining") == "0"
    return response.status_code == 403 and (limited or "retry-after" in response.headers)  # noqa: PLR2004


def _delay(response: httpx2.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
