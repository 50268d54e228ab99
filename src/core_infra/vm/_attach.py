"""Connect this terminal with a machine's serial console."""

from __future__ import annotations

import contextlib
import sys
import termios
import tty
from typing import TYPE_CHECKING

from core_infra._eventloop.sockets import short_path
from core_infra._unpatched import os, select, socket
from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAVE = b"\x1d"
"""The key that leaves the console: Ctrl-], as in telnet."""

_CHUNK = 1 << 16


def connect(path: Path) -> socket.socket:
    """A connection to the socket *path* of a machine.

    Raises:
        UnavailableError: no process serves it.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        with short_path(path) as address:
            sock.connect(address)
    except OSError as error:
        sock.close()
        raise UnavailableError(
            f"cannot reach the machine at {path}", why=error.strerror or str(error)
        ) from error
    return sock


def attach(console: socket.socket) -> bool:
    """Pass bytes both ways until Ctrl-] is typed or the machine ends; returns whether it ended."""
    with raw_terminal():
        keyboard, screen = sys.stdin.fileno(), sys.stdout.buffer
        while True:
            ready, _, _ = select.select([keyboard, console], [], [])
            if console in ready:
                data = console.recv(_CHUNK)
                if not data:
                    return True
                screen.write(data)
                screen.flush()
            if keyboard in ready:
                typed, leave, _ = os.read(keyboard, _CHUNK).partition(LEAVE)
                console.sendall(typed)
                if leave or not typed:
                    return False


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Pass every key on, also Ctrl-C, if there is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
