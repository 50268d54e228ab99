"""A client of a forge's HTTP API: pages, retries, checked answers, and rehearsals."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from core_infra.jobrunner._clock import Clock, SystemClock
from core_infra.jobrunner._forges.connection import Answer, Connection, parsed_url
from core_infra.jobrunner._forges.endpoint import checked_address
from core_infra.jobrunner._forges.errors import (
    ForgeAnswerError,
    ForgeNotFoundError,
    ForgeUnavailableError,
    RateLimitedError,
)
from core_infra.jobrunner._logging import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    import httpx2

    from core_infra.jobrunner._forges.endpoint import Secret
    from core_infra.jobrunner._forges.rate_limits import RateLimit


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def archived(self) -> bool: ...


T = TypeVar("T")
N = TypeVar("N", bound=_Named)

_LOG = logging.getLogger(__name__)
_PAGES = 100
_LIST: TypeAdapter[list[Any]] = TypeAdapter(list[Any])


class ApiClient:
    """A forge's API at one address.

    How a request is sent, and when it is not: :class:`~.connection.Connection`.

    Args:
        url: the address of the API.
        token: the token; None to send none.
        scheme: the scheme before the token in the header.
        accept: the media type to ask for.
        headers: more headers of each request.
        timeout: seconds that an answer may take, from the first byte sent to the last one read.
        pause: seconds between two requests that change something.
        retry_pause: seconds before a GET without an answer is repeated.
        clock: the source of time.
        own_links: whether the next page is asked for at this address, whatever a link says: a
            server makes links from its public address, which may be another one.

    Raises:
        InvalidError: the address cannot be used, or has credentials in it.
    """

    def __init__(
        self,
        url: str,
        token: Secret | None,
        *,
        scheme: str = "token",
        accept: str = "application/json",
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        pause: float = 0.0,
        retry_pause: float = 0.5,
        clock: Clock | None = None,
        own_links: bool = False,
    ) -> None:
        self._own_links = own_links
        self._clock = clock or SystemClock()
        self._connection = Connection(
            checked_address(url).rstrip("/"),
            token,
            scheme=scheme,
            headers={"Accept": accept, "User-Agent": "core-infra", **(headers or {})},
            timeout=timeout,
            clock=self._clock,
        )
        self.url = self._connection.url
        self._pause = pause
        self._retry_pause = retry_pause
        self._steps: list[str] | None = None
        self._begin()

    def rehearsing(self, steps: list[str]) -> Self:
        """A copy that appends requests which would change something to *steps*, and sends none."""
        twin = type(self).__new__(type(self))
        twin.__dict__ = {**self.__dict__, "_steps": steps}
        return twin

    def get(self, kind: TypeAdapter[T], path: str, **query: object) -> T:
        """Get something.

        Args:
            kind: the type of the answer.
            path: relative to the API's address; each part is quoted by :func:`api_path`.
            query: the parameters.

        Raises:
            ForgeUnavailableError: there is no usable answer.
            RateLimitedError: a limit is used up.
            ForgeNotFoundError: it does not exist.
            ForgeRefusedError: the forge refuses the request.
            ForgeAnswerError: the answer is of another type.
        """
        return self._parsed(kind, self._get(self._connection.address(path, query)).content, path)

    def get_text(self, path: str, **query: object) -> bytes:
        """Get an answer as it is; raises as :meth:`get` does."""
        return self._get(self._connection.address(path, query)).content

    def pages(
        self,
        kind: TypeAdapter[list[T]],
        path: str,
        *,
        lenient: bool = False,
        limit_pages: int = _PAGES,
        **query: object,
    ) -> Iterator[T]:
        """Get a list, page by page; raises as :meth:`get` does.

        Args:
            kind: the type of a page.
            path: relative to the API's address.
            lenient: whether items that are not as documented are logged and left out.
            limit_pages: how many pages to get; by default all: at most a hundred.
            query: the parameters.
        """
        url = self._connection.address(path, query)
        for _ in range(limit_pages):
            answer = self._get(url)
            if lenient:
                yield from self._valid(kind, answer.content, path)
            else:
                yield from self._parsed(kind, answer.content, path)
            if not answer.next:
                return
            url = self._next(url, answer.next)
        if limit_pages < _PAGES:
            return
        raise ForgeAnswerError(f"{path} does not end", why=f"it has more than {_PAGES} pages")

    def repositories(
        self, kind: TypeAdapter[list[N]], prefix: str, owner: str, **query: object
    ) -> list[str]:
        """The names of the repositories of an organisation or user, without archived ones."""
        for what in ("orgs", "users"):
            path = prefix + api_path(what, owner, "repos")
            try:
                found = list(self.pages(kind, path, lenient=True, limit_pages=_PAGES, **query))
            except ForgeNotFoundError:
                if what == "users":
                    raise
                continue
            return [one.name for one in found if not one.archived]
        raise AssertionError  # the last attempt returns or raises

    def send(self, method: str, path: str, content: object = None) -> None:
        """Change something, or only list it in a rehearsal; raises as :meth:`get` does."""
        url = self._connection.address(path, {})
        if self.rehearses(f"{method} {url} {json.dumps(content) if content else ''}".rstrip()):
            return
        with self._one_by_one():
            self._connection.request(method, url, content)

    def order(
        self, kind: TypeAdapter[T], path: str, content: object
    ) -> tuple[T, Mapping[str, str]]:
        """Change something by a POST; return the answer and its headers; raises as :meth:`get`."""
        with self._one_by_one():
            answer = self._connection.request("POST", self._connection.address(path, {}), content)
            return self._parsed(kind, answer.content, path), answer.headers

    @property
    def is_rehearsal(self) -> bool:
        """Whether nothing is changed."""
        return self._steps is not None

    def rehearses(self, step: str) -> bool:
        """Whether this is a rehearsal; if so, list the step."""
        if self._steps is None:
            return False
        self._steps.append(step)
        return True

    def ask(self, kind: TypeAdapter[T], path: str, content: object) -> tuple[T, Mapping[str, str]]:
        """Get something by a POST that changes nothing, and its headers; raises as :meth:`get`."""
        url = self._connection.address(path, {})
        answer = self._repeated(lambda: self._connection.request("POST", url, content))
        return self._parsed(kind, answer.content, path), answer.headers

    def limited(self, error: str, headers: Mapping[str, str]) -> RateLimitedError:
        """Send nothing as long as an answer's headers ask for; return the error to be raised."""
        return self._connection.limited(error, headers)

    @property
    def limits(self) -> list[RateLimit]:
        """What the last answers said of each limit."""
        return self._connection.limits

    def forge_time(self) -> datetime:
        """The time by the forge's clock."""
        return self._clock.now() + self._connection.ahead

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __getstate__(self) -> dict[str, Any]:
        hidden = {"_writing", "_written"}
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._writing = threading.Lock()
        self._written = float("-inf")

    @contextlib.contextmanager
    def _one_by_one(self) -> Iterator[None]:
        with self._writing:
            time.sleep(max(0.0, self._written + self._pause - time.monotonic()))
            try:
                yield
            finally:
                self._written = time.monotonic()

    def _next(self, url: httpx2.URL, link: str) -> httpx2.URL:
        if not self._own_links:
            return self._connection.same_origin(url.join(link))
        page = parsed_url(link).params.get("page") or int(url.params.get("page", "1")) + 1
        return url.copy_set_param("page", str(page))

    def _get(self, url: httpx2.URL) -> Answer:
        return self._repeated(lambda: self._connection.request("GET", url, None))

    def _repeated(self, ask: Callable[[], Answer]) -> Answer:
        for again in (True, True, False):
            try:
                return ask()
            except ForgeUnavailableError as error:
                if not again or not error.facts.get("passing"):
                    raise
                _LOG.info("%s; sent once more", error.what)
                time.sleep(self._retry_pause)
        raise AssertionError  # the last attempt returns or raises

    def _valid(self, kind: TypeAdapter[list[T]], content: bytes, path: str) -> Iterator[T]:
        try:
            yield from kind.validate_json(content)
        except ValidationError:
            items = self._parsed(_LIST, content, path)
            for item in items:
                try:
                    yield from self._parsed(kind, json.dumps([item]).encode(), path)
                except ForgeAnswerError as error:  # one item must not stop the others
                    _LOG.error("%s", describe_error(error))

    def _parsed(self, kind: TypeAdapter[T], content: bytes, path: str) -> T:
        try:
            return kind.validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ForgeAnswerError(
                f"the answer of {self.url}{path} is not as documented",
                why=f"{where}: {first['msg']}" if where else first["msg"],
            ) from None


def api_path(*parts: object) -> str:
    """A path of parts, each quoted, so that no name can change the path."""
    return "".join(f"/{_quoted(str(part))}" for part in parts)


def _quoted(part: str) -> str:
    quoted = urllib.parse.quote(part, safe="")
    # A client may resolve dots before it sends the path.
    return quoted.replace(".", "%2E") if not part.strip(".") else quoted
