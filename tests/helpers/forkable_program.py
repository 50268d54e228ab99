"""The program that forkable.py forks: it evaluates or executes each line that it is sent, and
answers with one line. At the end of its input it waits for ever.

forkable_program.py FD: the descriptor of the socket.
"""

# ruff: noqa: BLE001, F401, S307, S102 - it runs the lines, which use these modules
import ctypes
import mmap
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time

commands = os.fdopen(int(sys.argv[1]), "rb", buffering=0, closefd=False)
while line := commands.readline():
    try:
        value = eval(line)
    except SyntaxError:
        exec(line.decode().replace(";;", chr(10)))
        value = None
    except Exception as error:
        value = error
    os.write(commands.fileno(), f"{value!r}\n".encode())
while True:
    signal.pause()
