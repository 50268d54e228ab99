"""Our ends of a child's pipes and terminal: reading and writing never block."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import termios
from typing import TYPE_CHECKING, Any, TypeVar

from core_infra._eventloop.loop import READ, WRITE
from core_infra._eventloop.supervisor import supervisor
from core_infra._unpatched import os
from core_infra.errors import WrongStateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.loop import Loop

T = TypeVar("T")

_PIPE_SIZE = 1 << 16
_NEARLY_FULL = _PIPE_SIZE * 3 // 4  # writes of odd sizes do not fill each page
_BUSY_PIPE_SIZE = 1 << 20

_EOF_KEY = b"\x04"
_LOCAL_MODES = 3  # index in the result of tcgetattr
_CONTROL_CHARACTERS = 6  # index in the result of tcgetattr

_our_ends: set[int] = set()


def _close(fd: int) -> None:
    _our_ends.discard(fd)  # first: a child that is forked meanwhile must not close a reused number
    os.close(fd)


def _close_after_fork() -> None:
    """In a forked child: a program would not see the end of its input while copies are open."""
    while _our_ends:
        with contextlib.suppress(OSError):
            os.close(_our_ends.pop())


os.register_at_fork(after_in_child=_close_after_fork)


class OutputReader:
    """Reads a descriptor on the loop's thread, from :meth:`resume` on.

    Args:
        loop: watches the descriptor.
        fd: the descriptor; it is owned from now on.
        on_data: called with each piece.
        on_end: called once when there will be no more.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_data: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._on_data = on_data
        self._on_end = on_end
        _our_ends.add(fd)
        self._size = _PIPE_SIZE
        self._open = True
        self._paused = True

    @property
    def is_open(self) -> bool:
        """Whether there may be more."""
        return self._open

    def pause(self) -> None:
        """Stop reading for now: a full pipe makes the program wait. On the loop's thread."""
        if self._open:
            self._loop.unwatch(self._fd)
        self._paused = True

    def resume(self) -> None:
        """Start to read, or go on; on the loop's thread, or before the first read."""
        self._paused = False
        if self._open:
            self._loop.watch(self._fd, READ, self._ready)

    def catch_up(self) -> None:
        """Read what has been written so far, unless paused; on the loop's thread."""
        if not self._paused:
            self.drain()

    def drain(self) -> None:
        """Read what has been written so far, and no more, for other writers may go on.

        All that an ended program wrote is there at that moment.
        """
        if not self._open or not self._read(self._size):
            return
        waiting = array.array("i", [0])
        with contextlib.suppress(OSError):  # a terminal whose other end is closed
            fcntl.ioctl(self._fd, termios.FIONREAD, waiting)
        left = waiting[0]
        while left > 0 and self._open:
            left -= self._read(min(left, self._size))
        if self._open:
            self._read(self._size)  # the end, if nobody else has the other end

    def close(self) -> None:
        """Stop reading; on the loop's thread."""
        if self._open:
            self._open = False
            if not self._paused:
                self._loop.unwatch(self._fd)
            _close(self._fd)
            self._on_end()

    def _ready(self, _events: int) -> None:
        if self._read(self._size) > _NEARLY_FULL and self._size == _PIPE_SIZE:
            # The program writes more than fits: use fewer, larger reads. Large pipes are limited
            # for an unprivileged user (pipe-user-pages-soft), so quiet ones stay small.
            with contextlib.suppress(OSError):
                self._size = fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _BUSY_PIPE_SIZE)

    def _read(self, size: int) -> int:
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # the other end of a terminal is closed
        if data:
            self._on_data(data)
        else:
            self.close()
        return len(data)


class InputWriter:
    """Writes to a descriptor without blocking: what does not fit is queued.

    Args:
        loop: watches the descriptor.
        fd: the descriptor; it is owned from now on.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        _our_ends.add(fd)
        self._pending = bytearray()
        self._open = True
        self._ending = False

    def send(self, data: bytes) -> None:
        """Write soon, as fast as the program reads; on any thread.

        Raises:
            WrongStateError: it is closed, by us or by the program.
        """
        if not self._open or self._ending:
            raise WrongStateError(
                "cannot send input",
                why="the program's standard input is closed",
                needed="open",
                found="closed",
            )
        self._loop.post(lambda: self._write_or_queue(data))

    def close(self) -> None:
        """Close it once everything queued is written; on any thread."""
        self._ending = True
        self._loop.post(self._close_if_written)

    def abort(self) -> None:
        """Close it at once: nobody reads any more. On the loop's thread."""
        if self._open:
            self._open = False
            self._pending.clear()
            self._loop.unwatch(self._fd)
            _close(self._fd)

    def _write_or_queue(self, data: bytes) -> None:
        if not self._open:
            return
        if not self._pending:
            data = data[self._write(data) :]
        if data and self._open:
            self._pending += data
            self._loop.watch(self._fd, WRITE, self._ready)

    def _close_if_written(self) -> None:
        if not self._pending:
            self.abort()

    def _ready(self, _events: int) -> None:
        del self._pending[: self._write(self._pending)]
        if not self._pending:
            self._loop.unwatch(self._fd)
            if self._ending:
                self.abort()

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno is None:  # raised by a signal handler
                raise
            self.abort()  # the program does not read any more
            return 0


class TerminalInput(InputWriter):
    """Types on a program's terminal, from the outside; also has its size and its echo.

    Args:
        loop: watches the descriptor.
        fd: the outer end of the terminal; it is owned from now on.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        super().__init__(loop, fd)
        self._within_line = False
        self._finished = False

    def send(self, data: bytes) -> None:
        """Type soon, as fast as the program reads; on any thread.

        Raises:
            WrongStateError: the terminal is closed, or its input was ended.
        """
        if self._finished:
            raise WrongStateError(
                "cannot type", why="the input was ended", needed="open", found="ended"
            )
        super().send(data)
        if data:
            self._within_line = not data.endswith((b"\n", b"\r", _EOF_KEY))

    def close(self) -> None:
        """Type the end-of-input key, and accept nothing more: a terminal cannot be half-closed.

        The key ends the current line if there is one, and else the input.
        """
        if self._finished:
            return
        with contextlib.suppress(WrongStateError):  # the terminal is closed
            self.send(self.key(termios.VEOF) * (2 if self._within_line else 1))
        self._finished = True

    def key(self, number: int) -> bytes:
        """The control character of a function, such as ``termios.VINTR``."""
        key: bytes = self._on_terminal(termios.tcgetattr)[_CONTROL_CHARACTERS][number]
        return key

    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._on_terminal(termios.tcgetwinsize)

    def resize(self, rows: int, columns: int) -> None:
        """Change them; the program gets SIGWINCH."""
        self._on_terminal(lambda fd: termios.tcsetwinsize(fd, (rows, columns)))

    def echoes(self) -> bool:
        """Whether what is typed is shown."""
        return bool(self._on_terminal(termios.tcgetattr)[_LOCAL_MODES] & termios.ECHO)

    def set_echo(self, *, on: bool) -> None:
        """Show what is typed, or stop showing it."""

        def change(fd: int) -> None:
            modes: list[Any] = termios.tcgetattr(fd)
            local = modes[_LOCAL_MODES]
            modes[_LOCAL_MODES] = local | termios.ECHO if on else local & ~termios.ECHO
            termios.tcsetattr(fd, termios.TCSANOW, modes)

        self._on_terminal(change)

    def _on_terminal(self, job: Callable[[int], T]) -> T:
        def do() -> T:
            if not self._open:
                raise WrongStateError(
                    "the terminal is closed",
                    why="its program has ended",
                    needed="open",
                    found="closed",
                )
            return job(self._fd)

        return supervisor().call(do)  # on that thread nothing closes it meanwhile
