"""A pexpect object for a process that runs on a terminal of its own."""

from __future__ import annotations

import termios
from typing import TYPE_CHECKING, Protocol

from core_infra._unpatched import signal, time
from core_infra.errors import InvalidError
from core_infra.process._pexpect_adapter import PexpectAdapter
from core_infra.process._values import is_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.latch import Latch
    from core_infra.process._output import Piece
    from core_infra.process._streams import TerminalInput

_INTERVAL = 0.02


class OnTerminal(Protocol):
    """What a terminal needs of its process."""

    @property
    def id(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def over(self) -> Latch: ...
    def is_running(self) -> bool: ...
    def wait(self) -> int: ...
    def signal(self, number: int) -> None: ...
    def stop(self, grace: float | None = None) -> None: ...
    def send_input(self, text: str | bytes) -> None: ...
    def read(self, offset: int, timeout: float | None) -> Piece: ...


def _of_process(look: Callable[[OnTerminal], object], doc: str) -> property:
    """An attribute that pexpect would set when it polls its child; here it is always current."""
    return property(lambda self: look(self._process), lambda _self, _value: None, doc=doc)


class Terminal(PexpectAdapter):
    """The user's side of a terminal, with the methods of ``pexpect.spawn``.

    ``expect``, ``send``, ``sendline``, ``sendcontrol``, ``setwinsize``, ``setecho``, …; also for
    pexpect's ``REPLWrapper``. There is no ``interact``, no ``fileno``, and no ``async_=True``: the
    service reads the descriptor.

    It reads from the program's first byte on, whenever it is created. What it reads is also in the
    process's output, and on the bus.

    Args:
        process: started with ``pty=True``.
        terminal_input: returns what types on the terminal; WrongStateError if it does not run.
        timeout: seconds that an ``expect`` without a timeout of its own waits.
    """

    def __init__(
        self,
        process: OnTerminal,
        terminal_input: Callable[[], TerminalInput],
        *,
        timeout: float = 30.0,
    ) -> None:
        super().__init__(f"<terminal of {process.id}>", timeout=timeout)
        self._process = process
        self._input = terminal_input
        self._offset = 0
        self._ahead = b""
        self.closed = False

    pid = _of_process(lambda process: process.pid, "The process id.")
    terminated = _of_process(lambda process: process.over.is_set(), "Whether it is over.")
    exitstatus = _of_process(
        lambda process: _code(process, exited=True), "Its exit code, if no signal ended it."
    )
    signalstatus = _of_process(
        lambda process: _code(process, exited=False), "The signal that ended it, if one did."
    )

    def sendeof(self) -> int:
        """Type Ctrl-D: the end of the input, at the beginning of a line."""
        return self.send(self._input().key(termios.VEOF))

    def sendintr(self) -> int:
        """Type Ctrl-C, or the terminal's key for it."""
        return self.send(self._input().key(termios.VINTR))

    def getwinsize(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._input().size()

    def setwinsize(self, rows: int, columns: int) -> None:
        """Change the terminal's size; the program gets SIGWINCH.

        Raises:
            InvalidError: there is no such size.
        """
        if not is_size((rows, columns)):
            raise InvalidError(f"a terminal cannot have {rows!r} rows and {columns!r} columns")
        self._input().resize(rows, columns)

    @property
    def echo(self) -> bool:
        """Whether what is typed is shown."""
        return self.getecho()

    def getecho(self) -> bool:
        """Whether what is typed is shown."""
        return self._input().echoes()

    def setecho(self, state: bool) -> None:  # noqa: FBT001 - pexpect's signature
        """Show what is typed, or stop showing it."""
        self._input().set_echo(on=state)

    def waitnoecho(self, timeout: float | None = -1) -> bool:
        """Wait until what is typed is not shown, as before a password; returns whether it is so."""
        wait = self.timeout if timeout == -1 else timeout
        deadline = None if wait is None else time.monotonic() + wait
        while self.getecho():
            left = _INTERVAL if deadline is None else min(_INTERVAL, deadline - time.monotonic())
            if left <= 0:
                return False
            if self._process.over.wait(left):
                return False
        return True

    def isatty(self) -> bool:
        """Always true."""
        return True

    def isalive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_running()

    def eof(self) -> bool:
        """Whether the end of the output was read."""
        return self.flag_eof

    def fileno(self) -> int:
        """Raise InvalidError: the service reads the descriptor."""
        raise InvalidError(
            f"{self.name} has no descriptor to read from",
            why="all that its program writes is read, and kept, by the service",
            todo="Use expect() without async_=True, or asyncio.to_thread(terminal.expect, …).",
        )

    def wait(self) -> int:
        """Wait until the process is over; returns its exit code, as :meth:`Process.wait`."""
        return self._process.wait()

    def kill(self, sig: int) -> None:
        """Send the program a signal; does nothing if it has ended."""
        if self.isalive():
            self._process.signal(sig)

    def terminate(self, force: bool = False) -> bool:  # noqa: FBT001, FBT002 - pexpect's signature
        """Hang up and stop the process, with all that it started; always returns True.

        Args:
            force: kill it without SIGHUP and without time to end.
        """
        if self.isalive():
            if not force:
                self._process.signal(signal.SIGHUP)
            self._process.stop(0 if force else None)
        return True

    def close(self, force: bool = True) -> None:  # noqa: FBT001, FBT002 - pexpect's signature
        """Stop the process, as :meth:`terminate` does."""
        self.terminate(force)
        self.closed = True

    def _read(self, size: int, timeout: float | None) -> bytes:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ahead:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            is_over = self._process.over.is_set()
            self._ahead, _, self._offset = self._process.read(self._offset, left)
            if not self._ahead:
                if is_over:
                    self._at_end(f"{self._process} has ended")
                if not self._process.over.is_set():
                    self._timed_out(f"{self._process} wrote nothing for {timeout} s")
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def _type(self, data: bytes) -> None:
        self._process.send_input(data)


def _code(process: OnTerminal, *, exited: bool) -> int | None:
    """Its exit code or its signal, if it ended in that way."""
    code = process.exit_code
    return None if code is None or (code >= 0) is not exited else abs(code)
