"""Fail, and leave a stubborn server behind; argument: its port."""

import os
import signal
import socket
import sys
import time

server = socket.socket()
server.bind(("127.0.0.1", int(sys.argv[1])))  # fails if that of the attempt before still has it
server.listen()
if os.fork():
    os._exit(7)
os.setsid()
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
os.close(1)
os.close(2)
time.sleep(600)
