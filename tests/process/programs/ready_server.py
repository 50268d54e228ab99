"""Become ready in every way that a probe can find."""

import http.server
import socket
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if "busy" in self.path else 204)
        self.end_headers()


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
unix = socket.socket(socket.AF_UNIX)
unix.bind("socket")
unix.listen()
Path("file").touch()
print("listening on", end=" ", flush=True)
print(server.server_port, flush=True)
server.serve_forever()
