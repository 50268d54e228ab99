"""Listen on a port, which is printed, and on a UNIX socket named "stranger"."""

import socket
import sys

here = socket.create_server(("127.0.0.1", 0))
there = socket.socket(socket.AF_UNIX)
there.bind("stranger")
there.listen()
print(here.getsockname()[1], flush=True)
sys.stdin.read()
