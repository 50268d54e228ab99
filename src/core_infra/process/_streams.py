"""Our ends of a child's pipes: they never block anybody."""

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


_PIPE = 1 << 16
_NEARLY_FULL = _PIPE * 3 // 4  # what is written in odd sizes does not fill each page
_BUSY_PIPE = 1 << 20

_ours: set[int] = set()
"""Our ends of children's pipes."""


def _close(fd: int) -> None:
    _ours.discard(fd)  # first: a process that is forked just now must not close another's
    os.close(fd)


def _close_all() -> None:
    """In a forked child: a program would not see its input's end as long as that one has a copy."""
    while _ours:
        with contextlib.suppress(OSError):
            os.close(_ours.pop())


os.register_at_fork(after_in_child=_close_all)


class Reader:
    """Hands on what arrives on a descriptor, on the loop's thread, from :meth:`resume` on.

    Args:
        loop: watches the descriptor.
        fd: read from; the reader owns it.
        on_data: is given each piece.
        on_end: called once there will be no more.
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
        _ours.add(fd)
        self._size = _PIPE
        self._open = True
        self._paused = True

    @property
    def is_open(self) -> bool:
        """Whether there may be more."""
        return self._open

    def pause(self) -> None:
        """Read no more for now: a full pipe makes the writer wait. On the loop's thread."""
        self._paused = True
        if self._open:
            self._loop.unwatch(self._fd)

    def resume(self) -> None:
        """Read, or read again; on the loop's thread, or before anything was read."""
        self._paused = False
        if self._open:
            self._loop.watch(self._fd, READ, self._ready)

    def catch_up(self) -> None:
        """Take what is there at this moment, unless it is to wait; on the loop's thread."""
        if not self._paused:
            self.drain()

    def drain(self) -> None:
        """Take what is there at this moment, and no more, for others may go on writing.

        A program that has ended has nothing under way: all that it wrote is there.
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
        """Read no more; on the loop's thread."""
        if self._open:
            self._open = False
            self._loop.unwatch(self._fd)
            _close(self._fd)
            self._on_end()

    def _ready(self, _events: int) -> None:
        if self._read(self._size) > _NEARLY_FULL and self._size == _PIPE:
            # It has more to say than fits: fewer, larger reads. An unprivileged user may have so
            # many large pipes only (pipe-user-pages-soft), so the quiet ones stay small.
            with contextlib.suppress(OSError):
                self._size = fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _BUSY_PIPE)

    def _read(self, size: int) -> int:
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # nobody has the other end of a terminal any more
        if data:
            self._on_data(data)
        else:
            self.close()
        return len(data)


class Feeder:
    """Writes to a descriptor without making anybody wait: what does not fit is kept till it does.

    Args:
        loop: watches the descriptor.
        fd: written to; the feeder owns it.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        _ours.add(fd)
        self._pending = bytearray()
        self._open = True
        self._ending = False

    def send(self, data: bytes) -> None:
        """Write soon, as fast as the other side reads; from any thread.

        Raises:
            WrongStateError: it is closed, by us or by the other side.
        """
        if not self._open or self._ending:
            raise WrongStateError(
                "cannot send input",
                why="the program's standard input is closed",
                needed="open",
                found="closed",
            )
        self._loop.post(lambda: self._take(data))

    def close(self) -> None:
        """Let the other side read the rest and then the end; from any thread."""
        self._ending = True
        self._loop.post(self._end)

    def abort(self) -> None:
        """Close at once: nobody reads any more. On the loop's thread."""
        if self._open:
            self._open = False
            self._pending.clear()
            self._loop.unwatch(self._fd)
            _close(self._fd)

    def _take(self, data: bytes) -> None:
        if not self._open:
            return
        if not self._pending:
            data = data[self._write(data) :]
        if data and self._open:
            self._pending += data
            self._loop.watch(self._fd, WRITE, self._ready)

    def _end(self) -> None:
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
            if error.errno is None:  # a signal's handler raises it
                raise
            self.abort()  # it does not read any more
            return 0


T = TypeVar("T")

_EOF = b"\x04"
_LOCAL = 3  # in what tcgetattr returns: the local modes
_KEYS = 6  # and the characters with a meaning


class Keyboard(Feeder):
    """Types on a terminal, from the outside; also has its size and its echo.

    Args:
        loop: watches the descriptor.
        fd: the terminal's outer end; the keyboard owns it.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        super().__init__(loop, fd)
        self._within_line = False
        self._finished = False

    def send(self, data: bytes) -> None:
        """Type soon, as fast as the other side reads; from any thread.

        Raises:
            WrongStateError: the terminal is gone, or its input was ended.
        """
        if self._finished:
            raise WrongStateError(
                "cannot type", why="the input was ended", needed="open", found="ended"
            )
        super().send(data)
        if data:
            self._within_line = not data.endswith((b"\n", b"\r", _EOF))

    def close(self) -> None:
        """Type the end of the input, and nothing after it: a terminal has no other end of input.

        Its key ends the line that has begun, or else the input.
        """
        if self._finished:
            return
        with contextlib.suppress(WrongStateError):  # the terminal is gone
            self.send(self.key(termios.VEOF) * (2 if self._within_line else 1))
        self._finished = True

    def key(self, number: int) -> bytes:
        """The character with a meaning, such as ``termios.VINTR``."""
        key: bytes = self._on_terminal(termios.tcgetattr)[_KEYS][number]
        return key

    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._on_terminal(termios.tcgetwinsize)

    def resize(self, rows: int, columns: int) -> None:
        """Change them; the program gets SIGWINCH."""
        self._on_terminal(lambda fd: termios.tcsetwinsize(fd, (rows, columns)))

    def echoes(self) -> bool:
        """Whether what is typed is shown."""
        return bool(self._on_terminal(termios.tcgetattr)[_LOCAL] & termios.ECHO)

    def set_echo(self, *, on: bool) -> None:
        """Show what is typed, or show it no more."""

        def change(fd: int) -> None:
            modes: list[Any] = termios.tcgetattr(fd)
            modes[_LOCAL] = modes[_LOCAL] | termios.ECHO if on else modes[_LOCAL] & ~termios.ECHO
            termios.tcsetattr(fd, termios.TCSANOW, modes)

        self._on_terminal(change)

    def _on_terminal(self, job: Callable[[int], T]) -> T:
        def do() -> T:
            if not self._open:
                raise WrongStateError(
                    "the terminal is gone",
                    why="its program has ended",
                    needed="open",
                    found="closed",
                )
            return job(self._fd)

        return supervisor().call(do)  # there, nobody closes it meanwhile
