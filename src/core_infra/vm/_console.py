"""The serial console of a machine: a log of every byte, and pexpect on top."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from core_infra._eventloop.sockets import SocketLink
from core_infra.process._pexpect_adapter import PexpectAdapter
from core_infra.vm._hardware import check_positive

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

PANIC = r"Kernel panic - not syncing: [^\r\n]*"
"""The message of a kernel that panicked, as a regular expression."""

_TAIL_BYTES = 64 * 1024
_LIMIT = 64 * 1024 * 1024
_BOOT_LINES = 200
# initramfs-tools, dracut, systemd: each waits for input at the console after this.
_GIVEN_UP = re.compile(
    r"ALERT!.*|Gave up waiting for .*|dracut.*: Warning: .* does not exist"
    r"|Entering emergency mode.*|You are in emergency mode.*|Cannot open access to console.*"
)
_HELD = 1024 * 1024
_LOST = b"\n[core-infra: no room for the log: %d bytes of the console are lost]\n"
_FULL = b"\n[core-infra: the log is full; what the console says from here on is dropped]\n"
# A shell queries its terminal's cursor position: printed elsewhere, that terminal would answer.
_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class Console:
    """The log of a machine's serial line, and the line itself.

    Args:
        sock: connected to the serial port.
        path: the log file; the supervisor appends to it as bytes arrive, up to 64 MiB: a guest
            that floods its console does not fill the host's disk. What cannot be written while
            that is full is held, up to 1 MiB, until it can be.
        past: what the console had printed before, where it did not begin with this line.

    Attributes:
        path: the log file.
        begun: the offset in the log at which this line began.
    """

    def __init__(self, sock: socket.socket, path: Path, past: bytes = b"") -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._held = b""
        self._lost = 0
        self._write(past)
        self.begun = self._end
        self._open = True
        self._changed = threading.Condition()
        self._link = SocketLink(sock, on_data=self._append, on_close=self._closed)

    def send(self, data: bytes) -> None:
        """Type *data* on the line."""
        self._link.send(data)

    def read(self, offset: int, size: int, timeout: float | None) -> bytes | None:
        """Bytes of the log from *offset*, waiting for the first; None when no more will come.

        Returns b"" if none came within *timeout* seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._end > offset or not self._open, timeout)
            if self._end <= offset:
                return b"" if self._open else None
            if offset >= self._size:
                start = offset - self._size
                return self._held[start : start + size]
        return self._written(offset, size)

    def text(self) -> str:
        """The whole log so far."""
        with self._changed:
            data = self._written(0) + self._held
        return data.decode("utf-8", "replace").replace("\r\n", "\n")

    def tail(self, lines: int) -> str:
        """The last lines of the log, safe to print: without what a terminal would obey."""
        check_positive("lines", lines)
        return "\n".join(self._last(0).splitlines()[-lines:])

    @property
    def position(self) -> int:
        """Where the log ends now, for :meth:`since`."""
        with self._changed:
            return self._end

    def since(self, position: int) -> str:
        """The log since a position, at most its last 64 KiB, safe to print as :meth:`tail`."""
        return self._last(position).replace("\r\n", "\n")

    def panic(self) -> str | None:
        """The kernel's message if it panicked since this line began, else None."""
        found = re.findall(PANIC, self._last(self.begun))
        return str(found[-1]) if found else None

    def failed_boot(self) -> str | None:
        """The message of a guest that has given up booting: its kernel's, or its initrd's."""
        if panicked := self.panic():
            return panicked
        found = _GIVEN_UP.findall(self.tail(_BOOT_LINES))
        return str(found[-1]).strip() if found else None

    def follow(self, timeout: float | None = None) -> Iterator[str]:
        """The log line by line, then each new line as it comes, until the machine has ended.

        Ends early when nothing new came for *timeout* seconds.
        """
        offset, partial = 0, b""
        while data := self.read(offset, 1 << 16, timeout):
            offset += len(data)
            *lines, partial = (partial + data).split(b"\n")
            for line in lines:
                yield line.rstrip(b"\r").decode("utf-8", "replace")
        if partial:
            yield partial.decode("utf-8", "replace")

    def drain(self) -> None:
        """Read what the ended machine left on the line; call it on the supervisor's thread."""
        self._link.drain()

    def close(self) -> None:
        """Close the line; the log stays."""
        self._link.close()

    @property
    def _end(self) -> int:
        """How much there is, with what could not be written yet."""
        return self._size + len(self._held)

    def _last(self, begin: int) -> str:
        """The end of the log, from the offset *begin* at the earliest, as in :meth:`tail`."""
        with self._changed:
            written = self._written(max(min(begin, self._size), self._size - _TAIL_BYTES))
            held = self._held[max(0, begin - self._size) :]
        return _CONTROLS.sub("", (written + held).decode("utf-8", "replace"))

    def _written(self, offset: int, size: int = -1) -> bytes:
        """What the file has; nothing once its directory has been removed at the end of a run."""
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            return b""

    def _append(self, data: bytes) -> None:
        with self._changed:
            if self._end >= _LIMIT:
                return
            if self._end + len(data) >= _LIMIT:
                data += _FULL
            self._write(data)
            self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        """Write what is held, then *data*, as far as there is room; hold the rest."""
        if self._lost and len(self._held) < _HELD:
            data, self._lost = _LOST % self._lost + data, 0
        waiting = self._held + data
        try:
            written = self._file.write(waiting) or 0
        except OSError:  # a full disk does not stop the machine
            written = 0
        self._size += written
        self._held = waiting[written : written + _HELD]
        self._lost += max(0, len(waiting) - written - _HELD)

    def _closed(self) -> None:
        with self._changed:
            if self._held:
                self._write(b"")
            self._open = False
            self._file.close()
            self._changed.notify_all()


class ConsoleSpawn(PexpectAdapter):
    """A pexpect object on a machine's console: ``expect``, ``send``, ``sendline``, ….

    Reading begins at the console's first byte, so that nothing is missed.

    Args:
        console: returns the machine's console; another one after the machine was reverted.
        timeout: seconds that ``expect`` waits by default.
    """

    def __init__(self, console: Callable[[], Console], *, timeout: float) -> None:
        super().__init__("<console>", timeout=timeout)
        self._console = console
        self._offset = 0

    def isalive(self) -> bool:
        """Whether the line is still open."""
        return not self.flag_eof

    def _read(self, size: int, timeout: float | None) -> bytes:
        data = self._console().read(self._offset, size, timeout)
        if data is None:
            self._at_end("the machine has ended")
        if not data:
            self._timed_out(f"nothing new on the console for {timeout} s")
        self._offset += len(data)
        return data

    def _type(self, data: bytes) -> None:
        self._console().send(data)
