"""An interactive shell in a guest, on this process's terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING

from core_infra._unpatched import os, select, signal
from core_infra.errors import TimeoutExpiredError, UnavailableError
from core_infra.vm._attach import LEAVE, raw_terminal
from core_infra.vm._guest.protocol import Done, Outcome
from core_infra.vm._guest.results import raise_failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._guest.channel import Channel
    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._guest.run_config import RunConfig

_CHUNK = 1 << 16
# The user's own shell, by the agent's reading of /etc/passwd, if the image has it.
_SHELL = '[ -x "$SHELL" ] || SHELL=/bin/sh; exec "$SHELL" -l'


def run_shell(agent: AgentClient, *, user: str = "", config: RunConfig | None = None) -> int:
    """Run a login shell on this terminal until it ends or Ctrl-] is typed; its exit code.

    Args:
        agent: the guest's.
        user: the user who it runs as; default: root, or the image's.
        config: how the image wants programs to be run.

    Raises:
        UnavailableError: standard input or output is not a terminal.
        GuestOperationError: it could not be started.
        GuestGoneError: the machine ended meanwhile.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UnavailableError(
            "cannot open a shell",
            why="standard input and output are not a terminal",
            todo="Run it in a terminal; with pytest, without -n and with one process.",
        )
    environment = dict(config.env if config else {}) | {"TERM": os.environ.get("TERM", "dumb")}
    channel = agent.open_terminal(
        [b"/bin/sh", b"-c", _SHELL.encode()],
        env={os.fsencode(name): os.fsencode(value) for name, value in environment.items()},
        cwd=os.fsencode(config.workdir if config else ""),
        user=os.fsencode(user or (config.user if config else "")),
        size=_size(),
    )
    try:
        with raw_terminal(), _resizing(channel):
            return _converse(channel)
    finally:
        if not channel.ended:
            channel.signal(signal.SIGHUP)
        channel.abandon()


def _converse(channel: Channel) -> int:
    """Pass bytes both ways; the shell's exit code, or 0 if the user has left it."""
    keyboard = sys.stdin.fileno()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)

    def changed() -> None:  # on the supervisor's thread
        with contextlib.suppress(OSError):  # the pipe is full: it will be read anyway
            os.write(wake, b"x")

    channel.listen(changed)
    changed()  # something may have arrived before
    try:
        while True:
            ready, _, _ = select.select([keyboard, woken], [], [])
            if keyboard in ready:
                typed, leave, _ = os.read(keyboard, _CHUNK).partition(LEAVE)
                channel.write(typed)
                if leave or not typed:
                    return 0
            if woken in ready:
                os.read(woken, _CHUNK)
                if (done := _show(channel)) is not None:
                    raise_failure(done, "cannot open a shell in the guest")
                    return done.code if done.outcome is Outcome.EXITED else -done.code
    finally:
        channel.listen(lambda: None)
        os.close(woken)
        os.close(wake)


def _show(channel: Channel) -> Done | None:
    """Show what has arrived; how the shell ended, if it did."""
    try:
        while chunks := channel.read(0.0):
            for _, data in chunks:
                sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except TimeoutExpiredError:
        return None
    return channel.result()


@contextlib.contextmanager
def _resizing(channel: Channel) -> Iterator[None]:
    """Send the terminal's size to the guest whenever it changes."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are for the main thread
        return

    def changed(_number: int, _frame: object) -> None:
        channel.resize(*_size())

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _size() -> tuple[int, int]:
    """Rows and columns of this terminal."""
    size = os.get_terminal_size(sys.stdout.fileno())  # not by COLUMNS, which is not kept up
    return size.lines, size.columns
