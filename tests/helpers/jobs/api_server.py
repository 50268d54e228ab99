"""HTTP servers on this host that answer as a published description says.

Every request is checked against the description, and so is every answer: a server that answers
otherwise than the real one would prove nothing.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import jsonschema

if TYPE_CHECKING:
    from collections.abc import Callable

API = Path(__file__).parents[3] / "fixtures" / "api"
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    content: Any

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


class Reply(NamedTuple):
    status: int = 200
    content: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    raw: bytes | None = None


def content_of(body: bytes, kind: str) -> Any:
    return (json.loads(body) if kind == "application/json" else body) if body else None


class Description:
    """A published description, as far as fixtures/api has it."""

    def __init__(self, name: str) -> None:
        found = json.loads((API / name).read_text())
        self.definitions = found["definitions"]
        self.operations = {
            (line.split()[0], re.compile(re.sub(r"\{\w+\}", "([^/]+)", line.split()[1]))): operation
            for line, operation in found["operations"].items()
        }

    def find(self, method: str, path: str) -> dict[str, Any] | None:
        for (verb, pattern), operation in self.operations.items():
            if verb == method and pattern.fullmatch(path):
                return dict(operation)
        return None

    def problems(self, content: Any, schema: Any) -> list[str]:
        whole = {**schema, "definitions": self.definitions}
        validator = jsonschema.Draft202012Validator(whole)
        return [
            f"{'.'.join(map(str, error.path))}: {error.message:.200}"
            for error in validator.iter_errors(content)
        ]


class ApiServer:
    """An API by its description.

    Attributes:
        requests: all that was asked, in order.
        violations: what was asked or answered against the description.
        override: answers before the API does, if it returns something.
        clock: the time in the header Date.
    """

    description: Description
    prefix = ""
    page = 100
    page_parameter = "per_page"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.override: Callable[[Request], Reply | None] = lambda _: None
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.lock = threading.RLock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length)
                url = urllib.parse.urlsplit(self.path)
                request = Request(
                    self.command,
                    url.path,
                    dict(urllib.parse.parse_qsl(url.query)),
                    {name.lower(): value for name, value in self.headers.items()},
                    content_of(body, self.headers.get_content_type()),
                )
                reply = outer.reply(request)
                content = reply.raw
                if content is None:
                    content = (
                        b"" if reply.status in {204, 304} else json.dumps(reply.content).encode()
                    )
                self.send_response(reply.status)
                headers = {"Content-Length": str(len(content)), **reply.headers}
                if reply.raw is not None:
                    # Said before, or the client may send its next request into the closing one.
                    headers["Connection"] = "close"
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815

            def date_time_string(self, timestamp: float | None = None) -> str:
                del timestamp
                return email.utils.format_datetime(outer.clock(), usegmt=True)

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # the client went away: some tests want that

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def lines(self, *methods: str) -> list[str]:
        return [
            request.line for request in self.requests if request.method in (methods or ("GET",))
        ]

    def reply(self, request: Request) -> Reply:
        with self.lock:
            self.requests.append(request)
            if (found := self.override(request)) is not None:
                return found
            path = request.path.removeprefix(self.prefix)
            if (found := self.undescribed(request, path)) is not None:
                return found
            operation = self.description.find(request.method, path)
            if operation is None:
                self.violations.append(f"{request.line} is not described")
                return Reply(404, {"message": "Not Found"})
            self.check_request(request, operation)
            reply = self.answer(request, path)
            if reply.status < 300:
                self.check_reply(request, reply, operation)
            return self.conditional(request, self.paged(request, reply))

    def undescribed(self, request: Request, path: str) -> Reply | None:
        """The answer to what is no part of the description, such as GraphQL."""
        del request, path
        return None

    def answer(self, request: Request, path: str) -> Reply:
        raise NotImplementedError

    def check_request(self, request: Request, operation: dict[str, Any]) -> None:
        for name, value in request.query.items():
            schema = operation["query"].get(name)
            if schema is None:
                self.violations.append(f"{request.line} has no parameter {name}")
            elif "enum" in schema and value not in schema["enum"]:
                self.violations.append(f"{request.line}: {name} cannot be {value}")
        if request.method == "DELETE" and request.content is None:
            return  # a body is optional
        if (request.content is None) != (operation["body"] is None):
            self.violations.append(f"{request.line} was sent {request.content}")
        elif operation["body"] is not None:
            problems = self.description.problems(request.content, operation["body"])
            self.violations += [f"{request.line}: {problem}" for problem in problems]

    def check_reply(self, request: Request, reply: Reply, operation: dict[str, Any]) -> None:
        if str(reply.status) not in operation["responses"]:
            self.violations.append(f"{request.line} never answers {reply.status}")
        elif (schema := operation["responses"][str(reply.status)]) is not None:
            problems = self.description.problems(reply.content, schema)
            self.violations += [f"answer to {request.line}: {problem}" for problem in problems]

    def paged(self, request: Request, reply: Reply) -> Reply:
        if not isinstance(reply.content, list):
            return reply
        size = min(int(request.query.get(self.page_parameter, 30)), self.page)
        page = int(request.query.get("page", 1))
        part = reply.content[(page - 1) * size : page * size]
        headers = {}
        if page * size < len(reply.content):
            query = urllib.parse.urlencode({**request.query, "page": page + 1})
            headers["Link"] = f'<{self.url}{request.path}?{query}>; rel="next"'
        return Reply(reply.status, part, headers)

    def conditional(self, request: Request, reply: Reply) -> Reply:
        if request.method != "GET" or reply.status != 200:
            return reply
        etag = f'"{hashlib.sha256(json.dumps(reply.content).encode()).hexdigest()}"'
        if request.headers.get("if-none-match") == etag:
            return Reply(304)
        return reply._replace(headers={**reply.headers, "ETag": etag})
