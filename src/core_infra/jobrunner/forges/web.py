"""HTTP as forges speak it: pages, conditional requests, limits; and a token that stays at home."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import urllib.parse
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from core_infra.errors import UnavailableError
from core_infra.jobrunner.clock import Clock, SystemClock
from core_infra.jobrunner.forges import limits
from core_infra.jobrunner.forges.address import checked
from core_infra.jobrunner.forges.errors import (
    ForgeAnswerError,
    ForgeNotFoundError,
    ForgeRefusedError,
    ForgeUnavailableError,
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
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from core_infra.jobrunner.forges.token import Token

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_LARGEST = 32 << 20
_PAGES = 100
_REDIRECTS = 3
_KEPT = 512
_NOT_MODIFIED = 304
_MOVED = frozenset({301, 302, 307, 308})
_PASSING = frozenset({500, 502, 503, 504})
_NOT_FOUND = frozenset({404, 410})


class Answer(NamedTuple):
    """What a forge answered: content, and the address of the next page or nothing."""

    content: bytes
    next: str


class Web:
    """A forge's API at one address.

    The token goes to the address's origin (scheme, host, port) and nowhere else, whatever a
    redirect or a link to a next page says. GET is asked again with the ETag of the last answer: an
    answer that has not changed costs nothing of GitHub's limit. Once a limit is used up, nothing
    is sent until it begins anew.

    Args:
        url: of the API.
        token: None for what needs none.
        scheme: what stands before the token in the header.
        accept: the media type to ask for.
        headers: what else goes with each request.
        timeout: seconds that an answer may take, from the first byte sent to the last one read.
        pause: seconds between two requests that change something.
        retry_pause: seconds before a question is asked again that had no answer.
        clock: what tells the time.

    Raises:
        InvalidError: the address cannot be used, or has credentials in it.
    """

    def __init__(
        self,
        url: str,
        token: Token | None,
        *,
        scheme: str = "token",
        accept: str = "application/json",
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        pause: float = 0.0,
        retry_pause: float = 0.5,
        clock: Clock | None = None,
    ) -> None:
        self.url = httpx2.URL(checked(url).rstrip("/"))
        self._token = token
        self._scheme = scheme
        self._headers = {"Accept": accept, "User-Agent": "core-infra", **(headers or {})}
        self._timeout = timeout
        self._pause = pause
        self._retry_pause = retry_pause
        self._clock = clock or SystemClock()
        self._steps: list[str] | None = None
        self._begin()

    def rehearsing(self, steps: list[str]) -> Self:
        """The same, but what would change something is put into *steps* instead of being sent."""
        twin = type(self).__new__(type(self))
        twin.__dict__ = {**self.__dict__, "_steps": steps}
        return twin

    def get(self, kind: TypeAdapter[T], path: str, **query: object) -> T:
        """Ask for something.

        Args:
            kind: what it must be.
            path: relative to the API's address; each part is quoted by :func:`at`.
            query: the parameters.

        Raises:
            ForgeUnavailableError: there is no answer, or none that can be used.
            RateLimitedError: not now.
            ForgeNotFoundError: it is not there.
            ForgeRefusedError: it is not given to us.
            ForgeAnswerError: it is not of this kind.
        """
        return self._parsed(kind, self._get(self._at(path, query)).content, path)

    def pages(self, kind: TypeAdapter[list[T]], path: str, **query: object) -> Iterator[T]:
        """Ask for a list, page by page; raises as :meth:`get` does."""
        url = self._at(path, query)
        for _ in range(_PAGES):
            answer = self._get(url)
            yield from self._parsed(kind, answer.content, path)
            if not answer.next:
                return
            url = self._same_origin(url.join(answer.next))
        raise ForgeAnswerError(f"{path} has no end", why=f"it has more than {_PAGES} pages")

    def send(self, method: str, path: str, content: object) -> None:
        """Change something, or in a rehearsal only tell; raises as :meth:`get` does."""
        url = self._at(path, {})
        if self.rehearses(f"{method} {url} {json.dumps(content)}"):
            return
        with self._one_by_one():
            self._request(method, url, content)

    def order(self, kind: TypeAdapter[T], path: str, content: object) -> T:
        """Change something by a POST whose answer matters; raises as :meth:`get` does."""
        with self._one_by_one():
            return self.ask(kind, path, content)

    def rehearses(self, step: str) -> bool:
        """Tell whether this is a rehearsal; if it is, take down the step."""
        if self._steps is None:
            return False
        self._steps.append(step)
        return True

    def ask(self, kind: TypeAdapter[T], path: str, content: object) -> T:
        """Ask for something by a POST, which changes nothing; raises as :meth:`get` does."""
        return self._parsed(kind, self._request("POST", self._at(path, {}), content).content, path)

    def limited(self, error: str) -> RateLimitedError:
        """Be quiet for a minute; return the error to be raised."""
        self._not_before[0] = limits.reset({}, now=self._clock.now())
        return self._too_soon(error)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __getstate__(self) -> dict[str, Any]:
        hidden = {"_client", "_writing", "_written", "_known", "_not_before"}
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._client = httpx2.Client(timeout=self._timeout, follow_redirects=False)
        self._writing = threading.Lock()
        self._written = float("-inf")
        self._known: OrderedDict[str, tuple[str, Answer]] = OrderedDict()
        self._not_before: list[datetime | None] = [None]
        """In a list, as rehearsals share it."""

    @contextlib.contextmanager
    def _one_by_one(self) -> Iterator[None]:
        with self._writing:
            time.sleep(max(0.0, self._written + self._pause - time.monotonic()))
            try:
                yield
            finally:
                self._written = time.monotonic()

    def _at(self, path: str, query: Mapping[str, object]) -> httpx2.URL:
        url = httpx2.URL(f"{self.url}{path}")
        return url.copy_merge_params({name: str(value) for name, value in query.items()})

    def _get(self, url: httpx2.URL) -> Answer:
        for again in (True, True, False):
            try:
                return self._request("GET", url, None)
            except ForgeUnavailableError as error:
                if not again or not error.facts.get("passing"):
                    raise
                _LOG.info("%s; asked once more", error.what)
                time.sleep(self._retry_pause)
        raise AssertionError  # the last round returns or raises

    def _request(self, method: str, url: httpx2.URL, content: object) -> Answer:
        for _ in range(_REDIRECTS + 1):
            response, body = self._exchange(method, url, content)
            if response.status_code not in _MOVED:
                return self._judged(method, url, response, body)
            url = self._same_origin(url.join(response.headers.get("location", "")))
        raise ForgeUnavailableError(f"{method} {url} has no end", why="it redirects in a circle")

    def _exchange(
        self, method: str, url: httpx2.URL, content: object
    ) -> tuple[httpx2.Response, bytes]:
        if (until := self._not_before[0]) is not None and self._clock.now() < until:
            raise self._too_soon("its limit is used up")
        headers = dict(self._headers)
        if self._token is not None:
            headers["Authorization"] = f"{self._scheme} {self._token.read()}"
        if method == "GET" and (known := self._known.get(str(url))):
            headers["If-None-Match"] = known[0]
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        try:
            with self._client.stream(method, url, headers=headers, json=content) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _LARGEST:
                        raise ForgeAnswerError(f"{method} {url} answers more than can be")
                    if time.monotonic() > deadline:
                        raise httpx2.ReadTimeout(f"not at its end after {self._timeout:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ForgeUnavailableError(
                f"{method} {url} has no answer",
                why=f"{type(error).__name__}: {self._redacted(str(error))}",
                passing=True,
            ) from None  # the error has the request with it, and so the token
        return response, bytes(body)

    def _judged(
        self, method: str, url: httpx2.URL, response: httpx2.Response, body: bytes
    ) -> Answer:
        status = response.status_code
        key = str(url)
        if status == _NOT_MODIFIED and key in self._known:
            self._known.move_to_end(key)
            return self._known[key][1]
        text = self._redacted(_message(body))
        now = self._clock.now()
        if (until := limits.retry_at(status, response.headers, text, now=now)) is not None:
            self._not_before[0] = until
            raise self._too_soon(text)
        if response.headers.get("x-ratelimit-remaining") == "0":
            self._not_before[0] = limits.reset(response.headers, now=now)
        if response.is_success:
            answer = Answer(body, response.links.get("next", {}).get("url", ""))
            if method == "GET" and (etag := response.headers.get("etag")):
                self._known[key] = (etag, answer)
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            return answer
        what = f"{method} {url} failed with status {status}"
        if status in _NOT_FOUND:
            raise ForgeNotFoundError(what, why=text, status=status)
        if response.is_client_error:
            raise ForgeRefusedError(what, why=text, status=status)
        raise ForgeUnavailableError(what, why=text, status=status, passing=status in _PASSING)

    def _same_origin(self, url: httpx2.URL) -> httpx2.URL:
        ours = (self.url.scheme, self.url.host, self.url.port)
        if (url.scheme, url.host, url.port) != ours or url.userinfo:
            user = "***@" if url.userinfo else ""
            raise ForgeUnavailableError(
                f"{self.url} sends us to {url.scheme}://{user}{url.netloc.decode()}",
                why="that is another place, which must not see the token",
                todo="Give the address of the API that it has now.",
            )
        return url

    def _parsed(self, kind: TypeAdapter[T], content: bytes, path: str) -> T:
        try:
            return kind.validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ForgeAnswerError(
                f"{self.url}{path} answers what it must not",
                why=f"{where}: {first['msg']}" if where else first["msg"],
            ) from None

    def _too_soon(self, why: str) -> RateLimitedError:
        until = self._not_before[0]
        return RateLimitedError(
            f"{self.url} wants to be left alone until {until}", why=why, retry_at=until
        )

    def _redacted(self, text: str) -> str:
        # Some servers, and some proxies, say in an error what they were sent.
        return text.replace(self._token.read(), "***") if self._token else text


def at(*parts: object) -> str:
    """A path of parts, each quoted: no name leads anywhere else."""
    return "".join(f"/{_quoted(str(part))}" for part in parts)


def _quoted(part: str) -> str:
    quoted = urllib.parse.quote(part, safe="")
    # A client may resolve dots before it sends the path.
    return quoted.replace(".", "%2E") if not part.strip(".") else quoted


def _message(body: bytes) -> str:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return "its answer is not JSON"
    text = found.get("message") if isinstance(found, dict) else None
    return text[:500] if isinstance(text, str) else "it does not say why"
