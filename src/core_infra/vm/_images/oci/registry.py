"""Fetches images from registries by HTTP: the pulling half of the OCI distribution specification.

Names and passwords come from where docker and podman keep them. They go only to the registry that
they are for, and to the token server that it names; nothing secret follows a redirection.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import ssl
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import time
from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm._images.oci.manifest import INDEXES, LARGEST, MANIFESTS
from core_infra.vm._images.oci.reference import DIGEST, DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

    from core_infra.vm._images.oci.credentials import Credentials
    from core_infra.vm._images.oci.manifest import Descriptor
    from core_infra.vm._images.oci.reference import Reference
    from core_infra.vm._images.oci.store import Store

_HUB = "registry-1.docker.io"
_TIMEOUT = 30.0
_TRIES = 4
_LONGEST_WAIT = 60.0
_REDIRECTIONS = 5
_PROGRESS = 64 << 10  # bytes that a connection must bring before the next one is made
_CHUNK = 1 << 18
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_CHALLENGE = re.compile(r'([A-Za-z]+)="([^"]*)"')
_MISSING, _DENIED, _BUSY = 404, (401, 403), 429
_SERVER = 500


class Registry:
    """One image's repository in a registry.

    Args:
        reference: the image.
        credentials: finds the name and password for a host.
        progress: is called with a line of text when something has to be waited for.
        insecure: accept any certificate, and HTTP from a registry without TLS. Registries of this
            host itself are always used by HTTP.
    """

    def __init__(
        self,
        reference: Reference,
        credentials: Callable[[str], Credentials | None],
        progress: Callable[[str], None],
        *,
        insecure: bool = False,
    ) -> None:
        self.host = _HUB if reference.host == DOCKER_HUB else reference.host
        self._plain = re.sub(r":\d+$", "", self.host) in _LOOPBACK
        self._insecure = insecure
        self._probed = not insecure or self._plain
        self._reference = reference
        self._credentials = credentials
        self._progress = progress
        self._authorization = ""
        context = ssl.create_default_context()
        if insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        https = urllib.request.HTTPSHandler(context=context)
        self._opener = urllib.request.build_opener(_AsItIs, https)

    @property
    def _base(self) -> str:
        if not self._probed:
            self._probed = True
            try:
                self._open(f"https://{self.host}/v2/", {}).close()
            except UnavailableError:
                self._plain = True
        scheme = "http" if self._plain else "https"
        return f"{scheme}://{self.host}/v2/{self._reference.repository}"

    def manifest(self, version: str) -> tuple[str, bytes]:
        """Return the digest and the content of a manifest or index, by its digest or tag."""
        accept = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}
        with self._get(f"{self._base}/manifests/{version}", accept) as answer:
            data = self._read(answer, LARGEST)
            promised = answer.headers.get("Docker-Content-Digest", "")
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        for wanted in (version, promised):
            if DIGEST.fullmatch(wanted) and digest != wanted:
                raise InvalidError(
                    f"{self._reference} has a manifest that is not what its digest says",
                    why=f"{wanted} was asked for, and {digest} came",
                )
        return digest, data

    def blob(self, descriptor: Descriptor, store: Store) -> None:
        """Bring a blob into the store."""
        store.add(self._pieces(descriptor), descriptor.digest)

    def _pieces(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield a blob's content, and go on where a connection has ended too early."""
        url = f"{self._base}/blobs/{descriptor.digest}"
        done, tries = 0, 0
        while True:
            headers = {"Range": f"bytes={done}-"} if done else {}
            before, why = done, "the connection has ended"
            try:
                with self._get(url, headers) as answer:
                    skip = _known_part(answer, done)
                    while piece := answer.read(_CHUNK):
                        if skip:
                            piece, skip = piece[skip:], max(0, skip - len(piece))
                        done += len(piece)
                        if done > descriptor.size:
                            raise InvalidError(
                                f"{self._reference} has a blob that is too long",
                                why=f"{descriptor.digest} must have {descriptor.size} bytes",
                            )
                        if piece:
                            yield piece
            except (OSError, http.client.HTTPException) as error:
                why = str(error) or type(error).__name__
            if done == descriptor.size:
                return
            # A few bytes each time would be an endless number of requests.
            tries = 0 if done - before >= _PROGRESS else tries + 1
            if tries == _TRIES:
                raise UnavailableError(
                    f"cannot fetch all of {self._reference}",
                    why=f"{descriptor.digest} has {descriptor.size} bytes, {done} came: {why}",
                    todo="Try again: what was fetched whole is kept.",
                )

    def _read(self, answer: http.client.HTTPResponse, limit: int) -> bytes:
        try:
            data = answer.read(limit + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        if len(data) > limit:
            raise InvalidError(
                f"the registry's answer for {self._reference} is too long",
                why=f"more than {limit} bytes came",
            )
        if answer.length:  # http.client reports a short body only if all of it is asked for
            raise UnavailableError(
                f"the registry's answer for {self._reference} is cut off",
                why=f"{len(data)} bytes came, and {answer.length} are missing",
                todo="Try again.",
            )
        return data

    def _get(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Ask for a part of this repository: with a token if one is needed, again if it is busy."""
        waited, renewed = 0.0, False
        for attempt in range(1, 100):
            answer = self._follow(url, headers)
            status = answer.status
            if status < http.HTTPStatus.MULTIPLE_CHOICES:
                return answer
            text = _complaint(answer)
            if status == http.HTTPStatus.UNAUTHORIZED and not renewed:
                renewed = True
                self._authorize(answer.headers)
                continue
            if (status == _BUSY or status >= _SERVER) and attempt < _TRIES:
                delay = _delay(answer.headers, attempt)
                waited += delay
                if waited <= _LONGEST_WAIT:
                    self._progress(
                        f"{self._reference.host} answers {status}; asking again in {delay:.0f} s"
                    )
                    time.sleep(delay)
                    continue
            raise self._refused(status, text)
        raise AssertionError

    def _follow(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Ask, and follow redirections; only the first origin is given the authorization."""
        origin = _origin(url)
        for _ in range(_REDIRECTIONS + 1):
            own = {"Authorization": self._authorization} if self._authorization else {}
            answer = self._open(url, headers | (own if _origin(url) == origin else {}))
            location = answer.headers.get("Location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            answer.close()
            target = urllib.parse.urljoin(url, location)
            scheme = urllib.parse.urlsplit(target).scheme
            if scheme not in ("http", "https") or (scheme == "http" and url.startswith("https")):
                raise InvalidError(
                    f"the registry of {self._reference} leads to an address that is not followed",
                    why=f"{_shown(target)} is not encrypted"
                    if scheme == "http"
                    else _shown(target),
                )
            url = target
        raise InvalidError(f"the registry of {self._reference} leads in a circle", why=_shown(url))

    def _open(
        self, url: str, headers: dict[str, str], data: bytes | None = None
    ) -> http.client.HTTPResponse:
        request = urllib.request.Request(url, data, {"User-Agent": "core-infra", **headers})  # noqa: S310 - http or https
        try:
            answer: http.client.HTTPResponse = self._opener.open(request, timeout=_TIMEOUT)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(error) from error
        return answer

    # -- authorization -----------------------------------------------------------------------------

    def _authorize(self, headers: Message) -> None:
        """Get what the registry asks for: a token, or a name and password."""
        challenges = headers.get_all("WWW-Authenticate") or []
        credentials = self._credentials(self._reference.host)
        for challenge in challenges:
            kind, _, rest = challenge.partition(" ")
            if kind.lower() == "bearer":
                self._authorization = (
                    f"Bearer {self._token(dict(_CHALLENGE.findall(rest)), credentials)}"
                )
                return
            if kind.lower() == "basic" and credentials is not None and credentials.password:
                self._authorization = credentials.basic()
                return
        self._authorization = ""

    def _token(self, challenge: dict[str, str], credentials: Credentials | None) -> str:
        realm = challenge.get("realm", "")
        secure = not (self._plain or self._insecure)
        if urllib.parse.urlsplit(realm).scheme not in (("https",) if secure else ("http", "https")):
            raise InvalidError(
                f"the registry of {self._reference} sends us elsewhere for a token",
                why=_shown(realm) or "it names none",
            )
        query = {"scope": challenge.get("scope") or f"repository:{self._reference.repository}:pull"}
        if "service" in challenge:
            query["service"] = challenge["service"]
        if credentials is not None and credentials.identity_token:
            form = query | {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": "core-infra",
            }
            answer = self._open(realm, {}, urllib.parse.urlencode(form).encode())
        else:
            joint = "&" if "?" in realm else "?"
            own = {} if credentials is None else {"Authorization": credentials.basic()}
            answer = self._open(f"{realm}{joint}{urllib.parse.urlencode(query)}", own)
        with answer:
            if answer.status != http.HTTPStatus.OK:
                raise self._refused(answer.status, _complaint(answer))
            data = self._read(answer, LARGEST)
        with contextlib.suppress(ValueError, AttributeError):
            found = json.loads(data)
            token = found.get("token") or found.get("access_token")
            if isinstance(token, str) and token.isascii() and token.isprintable():
                return token
        raise InvalidError(f"no token came for {self._reference}", why=f"from {_shown(realm)}")

    # -- errors ------------------------------------------------------------------------------------

    def _refused(self, status: int, text: str) -> UnavailableError | NotFoundError:
        why = f"the registry answers {status}{f': {text}' if text else ''}"
        if status == _MISSING:
            return NotFoundError(f"there is no image {self._reference}", why=why)
        if status in _DENIED:
            host = self._reference.host
            todo = f"Log in: docker login {host} (or podman login). It may also not exist."
            return UnavailableError(f"cannot fetch {self._reference}", why=why, todo=todo)
        return UnavailableError(f"cannot fetch {self._reference}", why=why, todo="Try again later.")

    def _unreachable(self, error: Exception) -> UnavailableError:
        reason = getattr(error, "reason", None) or error
        return UnavailableError(
            f"cannot reach the registry of {self._reference}",
            why=str(reason) or type(reason).__name__,
            todo="Check the network, and HTTPS_PROXY if there is a proxy.",
        )


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Returns errors and redirections as answers like others."""

    def http_response(self, request: Any, response: Any) -> Any:  # noqa: ARG002 - its name is urllib's
        """Return the answer."""
        return response

    https_response = http_response


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc


def _shown(url: str) -> str:
    """Return an address without what may be secret in it."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")
    )


def _known_part(answer: http.client.HTTPResponse, done: int) -> int:
    """Return how many of an answer's bytes have come before, if *done* of the whole have.

    Raises:
        http.client.HTTPException: it is another part than the one that was asked for.
    """
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        return done
    part = answer.headers.get("Content-Range", "")
    if not part.startswith(f"bytes {done}-"):
        raise http.client.HTTPException(f"another part came: {part or 'none'}")
    return 0


def _delay(headers: Message, attempt: int) -> float:
    """Return the seconds to wait before asking again, as the server wants it."""
    asked = headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else float(2 ** (attempt - 1))


def _complaint(answer: http.client.HTTPResponse) -> str:
    """Return what a registry says of an error, in one line."""
    with contextlib.suppress(OSError, http.client.HTTPException), answer:
        data = answer.read(1 << 16)
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            first = json.loads(data)["errors"][0]
            return " ".join(f"{first.get('code', '')} {first.get('message', '')}".split())[:300]
    return ""
