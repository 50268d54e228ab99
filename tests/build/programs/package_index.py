"""A pypiserver on a free port that accepts one token: DIRECTORY; prints its address."""

from __future__ import annotations

import sys
from typing import Any
from wsgiref.simple_server import make_server

import pypiserver

config: dict[str, Any] = {"roots": [sys.argv[1]], "authenticate": ["update"], "password_file": "."}
app = pypiserver.app(**config, auther=lambda *given: given == ("__token__", "pypi-token"))
server = make_server("127.0.0.1", 0, app)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
