"""What types on a program's terminal."""

from __future__ import annotations

import contextlib
import termios
from typing import TYPE_CHECKING, Any, TypeVar

from core_infra.errors import WrongStateError
from core_infra.process.streams import Feeder
from core_infra.process.supervisor import supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.process.loop import Loop

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
