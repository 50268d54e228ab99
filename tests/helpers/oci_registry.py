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


class Registry:
    """A registry on this host; it serves while it is in a ``with`` block.

    Attributes:
        address: its host and port.
        seen: path and authorization of all requests.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.seen: list[tuple[str, str]] = []
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {key.lower(): value for key, value in self.headers.items()}
                own.seen.append((self.path, headers.get("authorization", "")))
                status, more, data = own.respond(self.path, headers)
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

    def respond(self, path: str, headers: dict[str, str]) -> Answer:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class FakeRegistry(Registry):
    """A registry of one image, whose answers a test decides.

    Attributes:
        answer: called with a path and the headers; None answers as a right registry does.
    """

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        super().__init__(host)
        self.digest = write_layout(directory, [layer([Entry("f", data=os.urandom(300_000))])])
        self.blobs = blobs_of(directory)
        manifest = json.loads(self.blobs[self.digest])
        self.layer = str(manifest["layers"][0]["digest"])
        self.answer: Callable[[str, dict[str, str]], Answer | None] = lambda _path, _headers: None
        self.name = f"{self.address}/app:v1"

    def respond(self, path: str, headers: dict[str, str]) -> Answer:
        return self.answer(path, headers) or self.right(path)

    def right(self, path: str) -> Answer:
        version = path.rpartition("/")[2]
        data = self.blobs.get(self.digest if version == "v1" else version)
        return (404, {}, b"") if data is None else (200, {}, data)


class LayoutRegistry(Registry):
    """A registry of the images in some layouts, whatever tag is asked for.

    Args:
        layouts: the directory of each, by the last part of the image's name; that of "" serves
            all other names.
    """

    def __init__(self, layouts: dict[str, Path]) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, str] = {}
        for name, directory in layouts.items():
            self.blobs |= blobs_of(directory)
            index = json.loads((directory / "index.json").read_bytes())
            self.manifests[name] = index["manifests"][0]["digest"]

    def respond(self, path: str, headers: dict[str, str]) -> Answer:
        del headers
        _, name, kind, version = path.rsplit("/", 3)
        if kind == "manifests" and not version.startswith("sha256:"):
            version = self.manifests.get(name, self.manifests[""])
        data = self.blobs.get(version)
        return (404, {}, b"") if data is None else (200, {}, data)


def blobs_of(layout: Path) -> dict[str, bytes]:
    """The blobs of an image layout by their digests."""
    return {
        f"sha256:{path.name}": path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()
    }
