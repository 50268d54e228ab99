"""What a child reads and writes: its ends are made for the start, ours stay."""

from __future__ import annotations

import termios
from functools import partial
from typing import TYPE_CHECKING

from core_infra._unpatched import os
from core_infra.process._events import Stream
from core_infra.process._streams import Feeder, Keyboard, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.loop import Loop
    from core_infra.process._options import Input, RunOptions

# A FIFO that nobody reads is refused: to wait for a reader would hold up all others of the loop.
_OUT = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


class Stdio:
    """The standard descriptors of one child.

    Args:
        loop: moves the bytes.
        options: what it is run with.
        stdin: what it reads; from :meth:`RunOptions.input`.
        wrote: is given its output, on the loop's thread; None discards it.

    Attributes:
        theirs: what the child gets, by the numbers that it gets them under, until :meth:`given`;
            without 0, it has nothing to read.
        feeder: writes to its input; None if that is not ours.
        readers: read its outputs, from :meth:`begin` on.
        on_closed: called, on the loop's thread, once nobody has the other ends of its outputs.
    """

    def __init__(
        self,
        loop: Loop,
        options: RunOptions,
        stdin: Input,
        wrote: Callable[[Stream, bytes], None] | None,
    ) -> None:
        self._loop = loop
        self.theirs: dict[int, int] = {}
        self.feeder: Feeder | None = None
        self.readers: list[Reader] = []
        self.on_closed: Callable[[], None] | None = None
        self._wrote = wrote
        self._sources: list[tuple[int, Stream]] = []
        self._to_close: list[int] = []
        try:
            if options.pty:
                self._terminal(options)
            else:
                self._input(stdin)
                self._outputs(options)
        except BaseException:
            self.close()
            raise
        self._data = None if options.pty else stdin

    def given(self) -> None:
        """The child has its ends, or will: close our copies, so that its end is noticed."""
        self._close_theirs()
        if self._wrote is not None:
            readers = [
                Reader(self._loop, fd, partial(self._wrote, stream), self._closed)
                for fd, stream in self._sources
            ]
            self.readers, self._sources = readers, []  # no signal comes in between
        if self.feeder is not None and isinstance(self._data, str | bytes):
            self.feeder.send(self._data.encode() if isinstance(self._data, str) else self._data)
            self.feeder.close()

    def begin(self) -> None:
        """Begin to read; on the loop's thread."""
        for reader in self.readers:
            reader.resume()

    def is_read(self) -> bool:
        """Whether there may be more to read."""
        return any(reader.is_open for reader in self.readers)

    def catch_up(self) -> None:
        """Take what it has written so far; on the loop's thread."""
        for reader in self.readers:
            reader.catch_up()

    def pause(self) -> None:
        """Read no more for now; on the loop's thread."""
        for reader in self.readers:
            reader.pause()

    def resume(self) -> None:
        """Read on; on the loop's thread."""
        for reader in self.readers:
            reader.resume()

    def ended(self) -> None:
        """Take what the ended program wrote; on the loop's thread.

        What it left behind may hold the other ends: they are read on, so that nobody blocks.
        """
        for reader in self.readers:
            reader.drain()
        if self.feeder is not None:
            self.feeder.abort()

    def close(self) -> None:
        """Close all; on the loop's thread, unless reading has not begun."""
        self._close_theirs()
        for fd, _ in self._sources:
            os.close(fd)
        self._sources.clear()
        for reader in self.readers:
            reader.close()
        if self.feeder is not None:
            self.feeder.abort()

    def _closed(self) -> None:
        if self.on_closed is not None and not self.is_read():
            self.on_closed()

    def _close_theirs(self) -> None:
        while self._to_close:
            os.close(self._to_close.pop())

    def _input(self, stdin: Input) -> None:
        if stdin is None or isinstance(stdin, str | bytes):
            if stdin is None or stdin:
                theirs, ours = os.pipe2(os.O_CLOEXEC)
                self._to_close.append(theirs)
                self.theirs[0] = theirs
                self.feeder = Feeder(self._loop, ours)
        else:
            self.theirs[0] = stdin

    def _outputs(self, options: RunOptions) -> None:
        if self._wrote is None:
            fd = os.open(os.devnull if options.log is None else options.log, _OUT, 0o666)
            self._to_close.append(fd)
            os.set_blocking(fd, True)
            self.theirs[1] = self.theirs[2] = fd
            return
        self._pipe(1, Stream.STDOUT)
        if options.merge:
            self.theirs[2] = self.theirs[1]
        else:
            self._pipe(2, Stream.STDERR)

    def _pipe(self, number: int, stream: Stream) -> None:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        self._sources.append((ours, stream))
        self._to_close.append(theirs)
        self.theirs[number] = theirs

    def _terminal(self, options: RunOptions) -> None:
        ours, theirs = os.openpty()
        self._to_close.append(theirs)
        self._sources.append((ours, Stream.STDOUT))
        # A copy for writing: either side can be closed without the other.
        self.feeder = Keyboard(self._loop, os.dup(ours))
        termios.tcsetwinsize(theirs, options.pty_size)
        self.theirs = dict.fromkeys((0, 1, 2), theirs)
