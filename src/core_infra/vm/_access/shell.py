"""A shell in a machine, by SSH, on this terminal."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from core_infra.vm._attach import raw_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._access.ssh import SshAccess

_CHUNK = 1 << 16


def shell(access: SshAccess) -> int:
    """Run a login shell on this terminal to its end and return its exit code."""
    process = access.call(access.open_shell(os.environ.get("TERM", "dumb"), _size()))
    done_read, done_write = os.pipe()
    screen = threading.Thread(target=_show, args=(access, process, done_write), daemon=True)
    with raw_terminal(), _resizing(access, process):
        screen.start()
        keyboard = sys.stdin.fileno()
        watched = [keyboard, done_read]
        while done_read not in (ready := select.select(watched, [], [])[0]):
            data = os.read(keyboard, _CHUNK) if keyboard in ready else b""
            access.call(access.type_into(process, data))
            if not data:
                watched.remove(keyboard)  # the shell ends by itself
        screen.join()
    os.close(done_read)
    code: int | None = process.returncode
    return 1 if code is None else code


def _show(access: SshAccess, process: Any, done: int) -> None:
    screen = sys.stdout.buffer
    try:
        while data := access.call(process.stdout.read(_CHUNK)):
            screen.write(data)
            screen.flush()
        access.call(process.wait_closed())
    finally:
        os.close(done)  # makes the other end readable


@contextlib.contextmanager
def _resizing(access: SshAccess, process: Any) -> Iterator[None]:
    """Send the terminal's size to the machine whenever it changes."""

    def changed(_number: int, _frame: object) -> None:
        width, height = _size()
        access.later(lambda: process.change_terminal_size(width, height))

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size()
    return size.columns, size.lines
