"""A pexpect object on a process that runs on a terminal of its own."""

from __future__ import annotations

import codecs
import time
from typing import TYPE_CHECKING

from pexpect.exceptions import EOF, TIMEOUT
from pexpect.spawnbase import SpawnBase

if TYPE_CHECKING:
    from core_infra.process.process import Process

    _Spawn = SpawnBase[str]
else:
    _Spawn = SpawnBase  # generic only in its type stubs


class Terminal(_Spawn):
    """The person before the terminal: ``expect``, ``send``, ``sendline``, ``sendcontrol``, ….

    It reads from the program's first byte on, however late it is asked for. What it reads is also
    in the process's output, and on the bus.

    Args:
        process: started with ``pty=True``.
        timeout: seconds that an ``expect`` without a timeout of its own waits.
    """

    def __init__(self, process: Process, *, timeout: float = 30.0) -> None:
        super().__init__(timeout=timeout, maxread=1 << 16, encoding="utf-8", codec_errors="replace")
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._process = process
        self._offset = 0
        self._ahead = b""
        self.name = f"<terminal of {process.id}>"

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:
        """What pexpect reads with; raises its TIMEOUT and EOF."""
        wait = self.timeout if timeout == -1 else timeout
        deadline = None if wait is None else time.monotonic() + wait
        while not self._ahead:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            is_over = self._process.over.is_set()
            self._ahead, _, self._offset = self._process.read(self._offset, left)
            if not self._ahead:
                if is_over:
                    self.flag_eof = True
                    raise EOF(f"{self._process} has ended")
                if not self._process.over.is_set():
                    raise TIMEOUT(f"{self._process} wrote nothing for {wait} s")
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        text = self._text.decode(data)
        self._log(text, "read")  # type: ignore[attr-defined] # missing in the stubs
        return text

    def send(self, text: str) -> int:
        """Type *text*; the number of bytes sent."""
        data = text.encode()
        self._log(text, "send")  # type: ignore[attr-defined] # missing in the stubs
        self._process.send_input(data)
        return len(data)

    def sendline(self, text: str = "") -> int:
        """Type *text* and Enter."""
        return self.send(f"{text}\n")

    def sendcontrol(self, char: str) -> int:
        """Type a control character: ``sendcontrol("c")`` is Ctrl-C."""
        return self.send(chr(ord(char.upper()) & 0x1F))

    def sendeof(self) -> int:
        """Type Ctrl-D: the end of the input, at a line's beginning."""
        return self.sendcontrol("d")

    def isalive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_running()
