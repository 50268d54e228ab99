"""The standard streams of a child: the ends that it inherits, and ours."""

from __future__ import annotations

import termios
from functools import partial
from typing import TYPE_CHECKING

from core_infra._unpatched import os
from core_infra.process._events import Stream
from core_infra.process._streams import InputWriter, OutputReader, TerminalInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra._eventloop.loop import Loop
    from core_infra.process._options import Input, RunOptions

# A FIFO without a reader is refused: waiting for a reader would block the loop.
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


class Stdio:
    """The standard streams of one child.

    Args:
        loop: transfers the data.
        options: the program.
        stdin: its input; from :meth:`RunOptions.input`.
        on_output: receives its output on the loop's thread; None discards it.

    Attributes:
        child_fds: the descriptors for the child, by their numbers in the child, until
            :meth:`hand_over`; without 0, its input is empty.
        writer: writes to its input; None if that is not a pipe or terminal of ours.
        readers: read its outputs, from :meth:`start_reading` on; those that are not closed.
        on_closed: called on the loop's thread once nobody has the other ends of its outputs.
    """

    def __init__(
        self,
        loop: Loop,
        options: RunOptions,
        stdin: Input,
        on_output: Callable[[Stream, bytes], None] | None,
    ) -> None:
        self._loop = loop
        self.child_fds: dict[int, int] = {}
        self.writer: InputWriter | None = None
        self.readers: list[OutputReader] = []
        self.on_closed: Callable[[], None] | None = None
        self._on_output = on_output
        self._sources: list[tuple[int, Stream]] = []
        self._to_close: list[int] = []
        try:
            if options.pty:
                self._open_terminal(options)
            else:
                self._open_input(stdin)
                self._open_outputs(options)
        except BaseException:
            self.close()
            raise
        self._data = None if options.pty else stdin

    def hand_over(self) -> None:
        """Close our copies of the child's ends, once it has its own: so its end is noticed."""
        self._close_child_fds()
        if self._on_output is not None:
            readers = [
                OutputReader(self._loop, fd, partial(self._on_output, stream), self._closed)
                for fd, stream in self._sources
            ]
            self.readers, self._sources = readers, []  # no signal can arrive in between
            self._on_output = None  # the readers have it, until they are closed
        if self.writer is not None and isinstance(self._data, (str, bytes)):
            self.writer.send(self._data.encode() if isinstance(self._data, str) else self._data)
            self.writer.close()

    def start_reading(self) -> None:
        """Start to read the outputs; on the loop's thread."""
        for reader in self.readers:
            reader.resume()

    def is_read(self) -> bool:
        """Whether there may be more to read."""
        return bool(self.readers)

    def catch_up(self) -> None:
        """Read what it has written so far; on the loop's thread."""
        for reader in self.readers:
            reader.catch_up()

    def pause(self) -> None:
        """Stop reading for now; on the loop's thread."""
        for reader in self.readers:
            reader.pause()

    def resume(self) -> None:
        """Go on reading; on the loop's thread."""
        for reader in self.readers:
            reader.resume()

    def drain(self) -> None:
        """Read what the program wrote, now that it has ended; on the loop's thread.

        Programs that it left behind may have the other ends: reading goes on, so none blocks.
        """
        for reader in self.readers:
            reader.drain()
        if self.writer is not None:
            self.writer.abort()

    def close(self) -> None:
        """Close everything; on the loop's thread, unless reading has not begun."""
        self._close_child_fds()
        for fd, _ in self._sources:
            os.close(fd)
        self._sources.clear()
        for reader in self.readers:
            reader.close()
        if self.writer is not None:
            self.writer.abort()

    def _closed(self) -> None:
        # A closed one would keep the process, and so its output, until garbage is collected.
        self.readers = [reader for reader in self.readers if reader.is_open]
        if self.on_closed is not None and not self.readers:
            self.on_closed()

    def _close_child_fds(self) -> None:
        while self._to_close:
            os.close(self._to_close.pop())

    def _open_input(self, stdin: Input) -> None:
        if stdin is None or isinstance(stdin, (str, bytes)):
            if stdin is None or stdin:
                theirs, ours = os.pipe2(os.O_CLOEXEC)
                self._to_close.append(theirs)
                self.child_fds[0] = theirs
                self.writer = InputWriter(self._loop, ours)
        else:
            self.child_fds[0] = stdin

    def _open_outputs(self, options: RunOptions) -> None:
        if self._on_output is None:
            path = os.devnull if options.log is None else options.log
            fd = os.open(path, _LOG_FLAGS, 0o666)
            self._to_close.append(fd)
            os.set_blocking(fd, True)
            self.child_fds[1] = self.child_fds[2] = fd
            return
        self._open_pipe(1, Stream.STDOUT)
        if options.merge:
            self.child_fds[2] = self.child_fds[1]
        else:
            self._open_pipe(2, Stream.STDERR)

    def _open_pipe(self, number: int, stream: Stream) -> None:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        self._sources.append((ours, stream))
        self._to_close.append(theirs)
        self.child_fds[number] = theirs

    def _open_terminal(self, options: RunOptions) -> None:
        ours, theirs = os.openpty()
        self._to_close.append(theirs)
        self._sources.append((ours, Stream.STDOUT))
        # A duplicate for writing: each can be closed without the other.
        self.writer = TerminalInput(self._loop, os.dup(ours))
        termios.tcsetwinsize(theirs, options.pty_size)
        self.child_fds = dict.fromkeys((0, 1, 2), theirs)
