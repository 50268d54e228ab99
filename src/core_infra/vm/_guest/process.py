"""A command that a user follows while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from core_infra._unpatched import signal, time
from core_infra.errors import TimeoutExpiredError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._guest.channel import STREAMS
from core_infra.vm._guest.command import Output, last_lines, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.vm._guest.command import RunningCommand
    from core_infra.vm._guest.results import ExecResult, OutputLine


class GuestProcess:
    """A command that runs in the guest; made by ``Machine.stream``.

    Iterate over it for its lines as they arrive, of stdout and stderr in the order of arrival. As
    a context manager it kills the command at the end of the block if it still runs.

    Attributes:
        command: the command as a list of arguments.
    """

    def __init__(self, running: RunningCommand) -> None:
        self.command = running.argv
        self._running = running

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal's number if one ended it; None until that is read."""
        return self._running.exit_code

    @property
    def duration(self) -> float | None:
        """Seconds it ran, as the guest measured; None until its end is read."""
        return self._running.duration

    def is_running(self) -> bool:
        """Whether its end has not arrived yet."""
        return self._running.is_running

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Its output as it arrives: pairs of stream ("stdout", "stderr") and bytes.

        Raises:
            GuestCommandTimeoutError: the command's time is up; it was killed.
        """
        while self.exit_code is None:
            try:
                chunks = self._running.channel.read(self._running.deadline)
            except TimeoutExpiredError:
                self._running.time_out(b"", b"")
            for stream, data in chunks:
                if self._running.step is not None:
                    self._running.step.add_output(data)
                yield STREAMS[stream], data
            if not chunks:
                self._running.read_end()

    def __iter__(self) -> Iterator[OutputLine]:
        partial: dict[str, bytes] = {}
        for stream, data in self.chunks():
            yield from lines_of(partial, stream, data)
        yield from last_lines(partial)

    def send_input(self, data: str | bytes) -> None:
        """Write to its standard input; waits while it does not read."""
        self._running.write(data, self._running.deadline)

    def close_stdin(self) -> None:
        """End its standard input."""
        self._running.channel.close_input()

    def signal(self, number: int) -> None:
        """Send a signal to the command and what it started in its process group."""
        self._running.signal(number)

    def kill(self) -> None:
        """Send SIGKILL to the command and what it started in its process group."""
        self._running.signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Drop what it still writes and wait for its end; its exit code.

        Raises:
            TimeoutExpiredError: it still runs after *timeout* seconds.
            InvalidError: *timeout* is not a time.
        """
        limit = None if timeout is None else timeouts.limit(timeout, 0)
        return self._running.read_end(None if limit is None else time.monotonic() + limit)

    def collect(self) -> ExecResult:
        """Read it to its end; its whole output and its exit code.

        Raises:
            GuestCommandTimeoutError: the command's time is up; it was killed.
            GuestOperationError: it could not be started, or it has written more than 512 MiB.
        """
        output = Output(self._running)
        try:
            while chunks := self._running.channel.read(self._running.deadline):
                output.add(chunks)
        except TimeoutExpiredError:
            output.time_out()
        return output.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.end()
