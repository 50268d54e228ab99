"""The base of a small HTTP server that slow or numerous clients cannot exhaust."""

from __future__ import annotations

import http.server
import io
import threading
import time
from typing import TYPE_CHECKING, Any

from core_infra._eventloop.sockets import Received

if TYPE_CHECKING:
    import socket

_CONNECTIONS = 64
_REQUEST_TIME = 20.0


class BoundedServer(http.server.ThreadingHTTPServer):
    """A server with a thread for each connection, and so many connections at most.

    Others are closed at once. Each connection has one request.

    Args:
        address: host and port.
        handler: a subclass of BoundedHandler.
        connections: the largest number at a time.
        request_time: seconds in which a request must have arrived.
    """

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BoundedHandler],
        *,
        connections: int = _CONNECTIONS,
        request_time: float = _REQUEST_TIME,
    ) -> None:
        self.request_time = request_time
        self._free = threading.Semaphore(connections)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection on a thread of its own, or close it."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread for it
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection; on its thread."""
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - as the base class does
            self.handle_error(request, client_address)
        finally:
            # Before the client notices the end: its next connection has a place.
            self._free.release()
            self.shutdown_request(request)


class BoundedHandler(http.server.BaseHTTPRequestHandler):
    """Handles a request that has arrived in time; another one is not answered."""

    timeout = 10
    """Seconds in which an answer must have been read."""
    server_version = "core-infra"
    sys_version = ""

    server: BoundedServer
    connection: socket.socket

    def setup(self) -> None:
        """Read the request until its time is over, however often a little of it arrives."""
        super().setup()
        self.rfile.close()
        deadline = time.monotonic() + self.server.request_time
        self.rfile = io.BufferedReader(Received(self.connection, deadline))

    def end_headers(self) -> None:
        """Send the head of an answer."""
        self.connection.settimeout(self.timeout)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""
