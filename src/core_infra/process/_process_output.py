"""The output of a process, as its users read it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from core_infra._eventloop.supervisor import supervisor
from core_infra._unpatched import os
from core_infra.errors import InvalidError
from core_infra.process._values import check_seconds, is_whole

if TYPE_CHECKING:
    from core_infra.process._events import Stream
    from core_infra.process._lifecycle import Lifecycle
    from core_infra.process._output import Output, Piece, StreamParts


class ProcessOutput:
    """What a process has written, in all its runs.

    Args:
        life: its lifecycle, whose last run has the pipes.
        output: what was read from them.
    """

    def __init__(self, life: Lifecycle, output: Output) -> None:
        self._life = life
        self._output = output
        self._run_start = 0
        self._owner = os.getpid()

    def output(self, stream: Stream | None = None) -> str:
        """The kept output as text; bytes that are not UTF-8 become U+FFFD.

        Args:
            stream: of this stream only; None is both in the order of arrival.
        """
        return self.output_bytes(stream).decode(errors="replace")

    def output_bytes(self, stream: Stream | None = None) -> bytes:
        """The kept output, exactly: of the last ``buffer_size`` bytes of both streams."""
        self._catch_up()
        return self._output.read(stream)

    @property
    def written(self) -> int:
        """How many bytes it has written so far, on both streams: an offset for :meth:`read`."""
        self._catch_up()
        return self._output.ring.end

    @property
    def run_start(self) -> int:
        """The offset at which the output of its last run starts; 0 before the first restart."""
        return self._run_start

    def read(self, offset: int = 0, timeout: float | None = 0) -> Piece:
        """Output from an absolute offset on, and how many bytes before it are lost.

        Args:
            offset: 0, or the ``end`` of the piece that was read last.
            timeout: seconds to wait for output if there is none; None waits until there is, or
                no more can come.
        """
        self._await_output(offset, timeout)
        return self._output.ring.read(offset)

    def read_by_stream(self, offset: int = 0, timeout: float | None = 0) -> StreamParts:
        """Output from an absolute offset on, split by streams; waits as :meth:`read` does."""
        self._await_output(offset, timeout)
        return self._output.parts(offset)

    def _await_output(self, offset: int, timeout: float | None) -> None:
        if not is_whole(offset) or offset < 0:
            raise InvalidError(
                f"offset is {offset!r}", why="it must be a whole number of bytes, 0 or more"
            )
        check_seconds("timeout", timeout)
        self._catch_up()
        self._output.ring.wait(offset, timeout)

    def _catch_up(self) -> None:
        """Read all that it has written so far, if another thread does the reading.

        A caller that has received something else from the program, by a socket or a file, then
        finds the output that was written before.
        """
        run, loop = self._life.run, self._life.loop
        ours = os.getpid() == self._owner and not sys.is_finalizing()
        if run is not None and run.stdio.is_read() and ours and loop is supervisor():
            supervisor().call(run.stdio.catch_up)
