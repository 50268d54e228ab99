"""Run by test_fork_server_life.py: forks a process of another parent; prints why it cannot.

not_the_parent.py FD: the descriptor of the process's control socket.
"""

import socket
import sys

from core_infra.errors import UnavailableError
from core_infra.vm._hypervisors.fork_server import ForkServer

server = ForkServer()
server._ours = socket.socket(fileno=int(sys.argv[1]))
try:
    server.fork({})
except UnavailableError as error:
    sys.stdout.write(error.why)
