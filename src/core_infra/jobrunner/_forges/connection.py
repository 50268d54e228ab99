"""One HTTP request to a forge: where the token may go, errors, and rate limits."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from core_infra.errors import UnavailableError
from core_infra.jobrunner._forges import rate_limits
from core_infra.jobrunner._forges.errors import (
    ForgeAnswerError,
    ForgeNotFoundError,
    ForgeRefusedError,
    ForgeUnavailableError,
    NotNowError,
    RateLimitedError,
)

try:
    import httpx2
except ImportError as missing:
    raise UnavailableError(
        "cannot talk to a forge",
        why="that needs httpx2",
        todo="Install it with: pip install core-infra[jobs]",
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core_infra.jobrunner._clock import Clock
    from core_infra.jobrunner._forges.endpoint import Secret
    from core_infra.jobrunner._forges.rate_limits import RateLimit

_BODY_MAX = 32 << 20
_REDIRECTS = 3
_CACHE_SIZE = 8192
"""Enough for some hundred repositories with a few lists each."""
_NOT_MODIFIED = 304
_MOVED = frozenset({301, 302, 307, 308})
_PASSING = frozenset({500, 502, 503, 504})
_NOT_FOUND = frozenset({404, 410})
_CONFLICT = 409
_FINAL = frozenset({403, 404, 405, 410, 422, 423, 451})
"""What a forge refuses in the same way the next time: rights, protection, settings."""
_MEANWHILE = re.compile(r"was modified|try (the merge )?again|out of date", re.IGNORECASE)
"""A refusal because something has changed at this moment."""


class Answer(NamedTuple):
    """An answer of a forge.

    Attributes:
        content: the body.
        next: the address of the next page; empty without one.
        headers: its other headers.
    """

    content: bytes
    next: str
    headers: Mapping[str, str]


class Connection:
    """Requests to one origin (scheme, host, port): the token goes nowhere else.

    A GET is sent with the ETag of the last answer: an unchanged answer does not count against
    GitHub's limit. Once a limit is used up, nothing is sent until it is reset.

    Args:
        url: the address of the API.
        token: the token; None to send none.
        scheme: the scheme before the token in the header.
        headers: the headers of each request.
        timeout: seconds that an answer may take, from the first byte sent to the last one read.
        clock: the source of time.
    """

    def __init__(
        self,
        url: str,
        token: Secret | None,
        *,
        scheme: str,
        headers: Mapping[str, str],
        timeout: float,
        clock: Clock,
    ) -> None:
        self.url = httpx2.URL(url)
        self._token = token
        self._scheme = scheme
        self._headers = headers
        self._timeout = timeout
        self._clock = clock
        self._not_before: datetime | None = None
        self._begin()

    def request(self, method: str, url: httpx2.URL, content: object) -> Answer:
        """Send a request, follow redirects within the origin, and check the answer.

        Raises:
            ForgeUnavailableError: there is no usable answer.
            RateLimitedError: a limit is used up.
            ForgeNotFoundError: it does not exist.
            ForgeRefusedError: the forge refuses the request.
        """
        for _ in range(_REDIRECTS + 1):
            known = None
            if method == "GET":
                with self._cache_lock:  # kept here: it may be evicted before the answer arrives
                    known = self._known.get(str(url))
            response, body = self._exchange(method, url, content, known[0] if known else "")
            if response.status_code not in _MOVED:
                return self._checked(method, url, response, body, known)
            url = self.same_origin(url.join(response.headers.get("location", "")))
        raise ForgeUnavailableError(f"{method} {url} does not end", why="it redirects in a circle")

    @property
    def limits(self) -> list[RateLimit]:
        """What the last answers said of each limit."""
        answered = list(self._answered.values())
        found = [rate_limits.shown(headers, now=then) for headers, then in answered]
        return [limit for limit in found if limit is not None]

    @property
    def ahead(self) -> timedelta:
        """How far the forge's clock is ahead of ours, by the last answer."""
        if not self._answered:
            return timedelta(0)
        headers, then = max(self._answered.values(), key=lambda answer: answer[1])
        return rate_limits.ahead(headers, then)

    def address(self, path: str, query: Mapping[str, object]) -> httpx2.URL:
        """The address of a path, with parameters."""
        url = httpx2.URL(f"{self.url}{path}")
        return url.copy_merge_params({name: str(value) for name, value in query.items()})

    def limited(self, error: str, headers: Mapping[str, str]) -> RateLimitedError:
        """Send nothing as long as an answer's headers ask for; return the error to be raised."""
        self._not_before = rate_limits.limited(headers, now=self._clock.now())
        return self._too_soon(error)

    def same_origin(self, url: httpx2.URL) -> httpx2.URL:
        """The address, if it is of the same origin; else raise ForgeUnavailableError."""
        ours = (self.url.scheme, self.url.host, self.url.port)
        if (url.scheme, url.host, url.port) != ours or url.userinfo:
            user = "***@" if url.userinfo else ""
            raise ForgeUnavailableError(
                f"{self.url} redirects to {url.scheme}://{user}{url.netloc.decode()}",
                why="that is another origin, which must not receive the token",
                todo="Give the present address of the API.",
            )
        return url

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __getstate__(self) -> dict[str, Any]:
        hidden = {"_client", "_known", "_cache_lock", "_answered"}
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._client = httpx2.Client(timeout=self._timeout, follow_redirects=False)
        self._known: OrderedDict[str, tuple[str, Answer]] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._answered: dict[str, tuple[Mapping[str, str], datetime]] = {}
        """The headers of the last answer for each limit, and when it came; read when asked for."""

    def _exchange(
        self, method: str, url: httpx2.URL, content: object, etag: str
    ) -> tuple[httpx2.Response, bytes]:
        if (until := self._not_before) is not None and self._clock.now() < until:
            raise self._too_soon("its limit is used up")
        headers = dict(self._headers)
        if self._token is not None:
            headers["Authorization"] = f"{self._scheme} {self._token.read()}"
        if etag:
            headers["If-None-Match"] = etag
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        try:
            with self._client.stream(method, url, headers=headers, json=content) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _BODY_MAX:
                        raise ForgeAnswerError(f"the answer to {method} {url} is too large")
                    if time.monotonic() > deadline:
                        raise httpx2.ReadTimeout(f"not at its end after {self._timeout:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ForgeUnavailableError(
                f"{method} {url} has no answer",
                why=f"{type(error).__name__}: {self._redacted(str(error))}",
                passing=True,
            ) from None  # the error has the request, and so the token
        return response, bytes(body)

    def _checked(
        self,
        method: str,
        url: httpx2.URL,
        response: httpx2.Response,
        body: bytes,
        known: tuple[str, Answer] | None,
    ) -> Answer:
        status = response.status_code
        key = str(url)
        now = self._clock.now()
        self._answered[response.headers.get("x-ratelimit-resource", "")] = (response.headers, now)
        if status == _NOT_MODIFIED and known is not None:
            # A list can get another page without a change on this one.
            link = _next(response) if "link" in response.headers else known[1].next
            answer = known[1]._replace(next=link)
            self._remember(key, known[0], answer)
            return answer
        text = self._redacted(_message(body))
        if (until := rate_limits.retry_at(status, response.headers, text, now=now)) is not None:
            self._not_before = until
            raise self._too_soon(text)
        if response.headers.get("x-ratelimit-remaining") == "0":
            self._not_before = rate_limits.reset(response.headers, now=now)
        if response.is_success:
            answer = Answer(body, _next(response), response.headers)
            if method == "GET" and (etag := response.headers.get("etag")):
                self._remember(key, etag, answer)
            return answer
        what = f"{method} {url} failed with status {status}"
        final = method != "GET" and status in _FINAL and not _MEANWHILE.search(text)
        if status in _NOT_FOUND:
            raise ForgeNotFoundError(what, why=text, status=status, final=final)
        if method != "GET" and (status == _CONFLICT or _MEANWHILE.search(text)):
            raise NotNowError(what, why=text, status=status)
        if response.is_client_error:
            raise ForgeRefusedError(what, why=text, status=status, final=final)
        raise ForgeUnavailableError(what, why=text, status=status, passing=status in _PASSING)

    def _remember(self, key: str, etag: str, answer: Answer) -> None:
        with self._cache_lock:
            self._known[key] = (etag, answer)
            self._known.move_to_end(key)
            while len(self._known) > _CACHE_SIZE:
                self._known.popitem(last=False)

    def _too_soon(self, why: str) -> RateLimitedError:
        until = self._not_before
        return RateLimitedError(
            f"{self.url} accepts no request until {until}", why=why, retry_at=until
        )

    def _redacted(self, text: str) -> str:
        # Some servers and proxies repeat in an error what they were sent.
        return text.replace(self._token.read(), "***") if self._token else text


def parsed_url(text: str) -> httpx2.URL:
    """An address as a value."""
    return httpx2.URL(text)


def _next(response: httpx2.Response) -> str:
    return response.links.get("next", {}).get("url", "")


def _message(body: bytes) -> str:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return "its answer is not JSON"
    text = found.get("message") if isinstance(found, dict) else None
    return text[:500] if isinstance(text, str) else "it does not say why"
