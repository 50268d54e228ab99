"""An HTTP server about a running poller: its health, its metrics, its journal; and webhooks."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import threading
import urllib.parse
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Self

from core_infra._wording import count
from core_infra.errors import CoreInfraError, UnavailableError
from core_infra.jobrunner._bounded_http import BoundedHandler, BoundedServer
from core_infra.jobrunner._journal.html_report import html_report
from core_infra.jobrunner._logging import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.jobrunner._forges.endpoint import Secret
    from core_infra.jobrunner._poller import Poller

_BODY_MAX = 1 << 20
_LENGTH = re.compile("[0-9]{1,7}")
_SIGNATURES = ("x-hub-signature-256", "x-forgejo-signature", "x-gitea-signature")
_REPORT_DAYS = 7
_OPEN = {"/health", "/ready"}


class Reply(NamedTuple):
    """An answer.

    Attributes:
        status: the status.
        text: the body.
        kind: its media type.
    """

    status: HTTPStatus
    text: str
    kind: str = "text/plain; charset=utf-8"


_ELSEWHERE = Reply(
    HTTPStatus.MISDIRECTED_REQUEST,
    "this server listens on this host only, and does not have the name in Host\n",
)


class OperationsServer:
    """Serves ``/health``, ``/ready``, ``/metrics``, ``/`` and ``POST /hook``.

    ``/health`` fails if the poller's loop stands still or a source hangs: the process must be
    restarted then. ``/ready`` fails while another poller leads. ``/`` is the report of the last
    week's actions. ``/hook`` receives webhooks of GitHub and Forgejo: with a right signature, the
    repository in it is polled now; nothing else in it is used, so a replay is harmless.

    Args:
        address: where to listen.
        port: the port; 0 is any free one.
        metrics: makes the text of the metrics; None without them.
        secret: the secret of the webhooks; None to receive none.

    Attributes:
        poller: the poller; assign to change it. None while there is none.
        url: the address.

    Raises:
        UnavailableError: the port is taken, or the address cannot be used.
    """

    def __init__(
        self,
        address: str,
        port: int,
        *,
        metrics: Callable[[], str] | None = None,
        secret: Secret | None = None,
    ) -> None:
        self.poller: Poller | None = None
        self._metrics = metrics
        self._secret = secret
        outer = self

        class Handler(BoundedHandler):
            def do_GET(self) -> None:  # noqa: N802 - of http.server
                path, host = self.path.partition("?")[0], self.headers.get("host", "")
                self._send(outer.get(path) if outer.serves(path, host) else _ELSEWHERE)

            def do_POST(self) -> None:  # noqa: N802 - of http.server
                length = self.headers.get("content-length", "")
                if self.path != "/hook":
                    self._send(Reply(HTTPStatus.NOT_FOUND, "not found\n"))
                elif not _LENGTH.fullmatch(length) or int(length) > _BODY_MAX:
                    self.close_connection = True
                    self._send(Reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large\n"))
                else:
                    body = self.rfile.read(int(length))
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    self._send(outer.hook(headers, body))

            def _send(self, reply: Reply) -> None:
                data = reply.text.encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(data)

        self._is_local = _is_loopback(address)
        try:
            self._server = BoundedServer((address, port), Handler)
        except (OSError, OverflowError) as error:
            raise UnavailableError(
                f"cannot listen at {address}:{port}",
                why=str(error),
                todo="Give another --listen.",
            ) from error
        self.url = f"http://{address}:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="core-infra-http", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def serves(self, path: str, host: str) -> bool:
        """Whether to answer a GET for a host's name.

        A page in a browser on this host can make its own name an address of this host (DNS
        rebinding), and read what only this host may. ``/health`` and ``/ready`` say nothing secret.
        """
        if path in _OPEN or not self._is_local or not host:
            return True
        try:
            return _is_loopback(urllib.parse.urlsplit(f"//{host}").hostname or "")
        except ValueError:
            return False

    def get(self, path: str) -> Reply:
        """Answer a GET."""
        match path:
            case "/health":
                return self._health()
            case "/ready":
                is_ready = self.poller is not None and self.poller.leads
                if is_ready:
                    return Reply(HTTPStatus.OK, "ready\n")
                return Reply(HTTPStatus.SERVICE_UNAVAILABLE, "standing by\n")
            case "/metrics" if self._metrics is not None:
                kind = "text/plain; version=0.0.4; charset=utf-8"
                return Reply(HTTPStatus.OK, self._metrics(), kind)
            case "/" if self.poller is not None:
                return self._report(self.poller)
            case _:
                return Reply(HTTPStatus.NOT_FOUND, "not found\n")

    def hook(self, headers: dict[str, str], body: bytes) -> Reply:
        """Answer a webhook."""
        if self._secret is None:
            return Reply(HTTPStatus.NOT_FOUND, "not found\n")
        try:
            key = self._secret.read().encode()
        except CoreInfraError as error:
            return Reply(HTTPStatus.SERVICE_UNAVAILABLE, f"{describe_error(error)}\n")
        wanted = hmac.new(key, body, hashlib.sha256).hexdigest()
        given = [headers[name].removeprefix("sha256=") for name in _SIGNATURES if name in headers]
        if not any(hmac.compare_digest(wanted.encode(), one.encode()) for one in given):
            return Reply(HTTPStatus.FORBIDDEN, "the signature is wrong\n")
        try:
            found = json.loads(body)["repository"]["full_name"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return Reply(HTTPStatus.ACCEPTED, "no repository\n")
        polled = self.poller.poll_now(str(found)) if self.poller is not None else 0
        return Reply(HTTPStatus.ACCEPTED, f"polled now: {count(polled, 'source')}\n")

    def _health(self) -> Reply:
        if self.poller is None:
            return Reply(HTTPStatus.OK, json.dumps({"problems": []}))
        problems = self.poller.problems()
        state = {"problems": problems, "cycle": self.poller.cycle, "leads": self.poller.leads}
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        return Reply(status, json.dumps(state) + "\n", "application/json")

    def _report(self, poller: Poller) -> Reply:
        now = datetime.now(UTC)
        since = (now - timedelta(days=_REPORT_DAYS)).date()
        text = html_report(poller.config.journal.entries(since=since), (), now=now)
        return Reply(HTTPStatus.OK, text, "text/html; charset=utf-8")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"
