"""A registry of images that misbehaves as a test wants it."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from oci_images import Entry, layer, write_layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Answer = tuple[int, dict[str, str], bytes]


class FakeRegistry:
    """A registry whose answers a test decides; it serves while it is in a ``with`` block.

    Attributes:
        seen: path and authorization of all requests.
        answer: called with a path and the headers; None answers as a right registry does.
    """

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self.digest = write_layout(directory, [layer([Entry("f", data=os.urandom(300_000))])])
        self.blobs = {
            f"sha256:{path.name}": path.read_bytes()
            for path in (directory / "blobs" / "sha256").iterdir()
        }
        manifest = json.loads(self.blobs[self.digest])
        self.layer = str(manifest["layers"][0]["digest"])
        self.seen: list[tuple[str, str]] = []
        self.answer: Callable[[str, dict[str, str]], Answer | None] = lambda _path, _headers: None
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {key.lower(): value for key, value in self.headers.items()}
                fake.seen.append((self.path, headers.get("authorization", "")))
                status, more, data = fake.answer(self.path, headers) or fake.right(self.path)
                self.send_response(status)
                more.setdefault("Content-Length", str(len(data)))
                for key, value in more.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)
                if int(more["Content-Length"]) != len(data):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((host, 0), Handler)
        self.address = f"{host}:{self.server.server_address[1]}"
        self.name = f"{self.address}/app:v1"

    def right(self, path: str) -> Answer:
        version = path.rpartition("/")[2]
        data = self.blobs.get(self.digest if version == "v1" else version)
        return (404, {}, b"") if data is None else (200, {}, data)

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
