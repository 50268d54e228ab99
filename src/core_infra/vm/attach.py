"""Connect this terminal with a machine's serial console."""

from __future__ import annotations

import contextlib
import json
import sys
import termios
import tty
from typing import TYPE_CHECKING

from core_infra.errors import NotFoundError, UnavailableError
from core_infra.process.real import os, select, socket
from core_infra.process.sockets import short_path
from core_infra.vm.instance import CONSOLE_SOCKET
from core_infra.vm.rundir import RECORD, kept_machines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAVE = b"\x1d"
"""What leaves the console: Ctrl-], as telnet has it."""

_CHUNK = 1 << 16


def kept_console(pid: int) -> Path:
    """The console's socket of a machine that a test run left running.

    Args:
        pid: its process id, which the end of that run names.

    Raises:
        NotFoundError: there is none; tells those that there are.
    """
    kept = {json.loads((path / RECORD).read_text())["pid"]: path for path in kept_machines()}
    if pid not in kept:
        known = ", ".join(map(str, sorted(kept))) or "none"
        raise NotFoundError(
            f"no kept machine has the process id {pid}", why=f"those that run: {known}"
        )
    return kept[pid] / CONSOLE_SOCKET


def connect(path: Path) -> socket.socket:
    """A connection to the socket *path* of a machine.

    Raises:
        UnavailableError: nobody serves it.
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
    """Carry bytes both ways until Ctrl-] is typed or the machine ends; whether it has ended."""
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
    """Pass every key on, Ctrl-C too, where there is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
