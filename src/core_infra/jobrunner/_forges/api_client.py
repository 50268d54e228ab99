"""HTTP as forges speak it: pages, conditional requests, limits; and a token that stays at home."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from core_infra.jobrunner._clock import Clock, SystemClock
from core_infra.jobrunner._forges.connection import Answer, Connection
from core_infra.jobrunner._forges.endpoint import checked
from core_infra.jobrunner._forges.errors import (
    ForgeAnswerError,
    ForgeUnavailableError,
    RateLimitedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx2

    from core_infra.jobrunner._forges.endpoint import Token

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_PAGES = 100


class Web:
    """A forge's API at one address.

    How it is asked, and when it is not: :class:`~.connection.Connection`.

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
        self._connection = Connection(
            checked(url).rstrip("/"),
            token,
            scheme=scheme,
            headers={"Accept": accept, "User-Agent": "core-infra", **(headers or {})},
            timeout=timeout,
            clock=clock or SystemClock(),
        )
        self.url = self._connection.url
        self._pause = pause
        self._retry_pause = retry_pause
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
        return self._parsed(kind, self._get(self._connection.address(path, query)).content, path)

    def pages(self, kind: TypeAdapter[list[T]], path: str, **query: object) -> Iterator[T]:
        """Ask for a list, page by page; raises as :meth:`get` does."""
        url = self._connection.address(path, query)
        for _ in range(_PAGES):
            answer = self._get(url)
            yield from self._parsed(kind, answer.content, path)
            if not answer.next:
                return
            url = self._connection.same_origin(url.join(answer.next))
        raise ForgeAnswerError(f"{path} has no end", why=f"it has more than {_PAGES} pages")

    def send(self, method: str, path: str, content: object) -> None:
        """Change something, or in a rehearsal only tell; raises as :meth:`get` does."""
        url = self._connection.address(path, {})
        if self.rehearses(f"{method} {url} {json.dumps(content)}"):
            return
        with self._one_by_one():
            self._connection.request(method, url, content)

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
        return self._parsed(
            kind,
            self._connection.request("POST", self._connection.address(path, {}), content).content,
            path,
        )

    def limited(self, error: str) -> RateLimitedError:
        """Be quiet for a minute; return the error to be raised."""
        return self._connection.limited(error)

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

    def _get(self, url: httpx2.URL) -> Answer:
        for again in (True, True, False):
            try:
                return self._connection.request("GET", url, None)
            except ForgeUnavailableError as error:
                if not again or not error.facts.get("passing"):
                    raise
                _LOG.info("%s; asked once more", error.what)
                time.sleep(self._retry_pause)
        raise AssertionError  # the last round returns or raises

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


def at(*parts: object) -> str:
    """A path of parts, each quoted: no name leads anywhere else."""
    return "".join(f"/{_quoted(str(part))}" for part in parts)


def _quoted(part: str) -> str:
    quoted = urllib.parse.quote(part, safe="")
    # A client may resolve dots before it sends the path.
    return quoted.replace(".", "%2E") if not part.strip(".") else quoted
