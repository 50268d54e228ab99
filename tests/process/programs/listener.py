"""Listen on an address and a port, and print the port."""

import socket
import sys

host, port = sys.argv[1:]
server = socket.socket(socket.AF_INET6 if host == "::" else socket.AF_INET)
if host == "::":
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
server.bind((host, int(port)))
server.listen()
print(server.getsockname()[1], flush=True)
sys.stdin.read()
