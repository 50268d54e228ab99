"""A command that runs in a machine by SSH."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from core_infra._unpatched import time
from core_infra.errors import TimeoutExpiredError
from core_infra.vm._access import guard
from core_infra.vm._access.interface import NoAccessError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

T = TypeVar("T")

_CHUNK = 1 << 16
_AHEAD = 16  # chunks that are read in advance
_DIE = 5.0
"""Seconds for a killed command to end; in a guest that hangs it never does."""
_DIE_LATE = 1.0
"""The same after a timeout, as its error must be raised on time."""


class SshConnection(Protocol):
    """What a command needs of its connection, which has an event loop on a thread of its own.

    Attributes:
        library: the module asyncssh.
    """

    library: Any

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the event loop and return its result."""

    def later(self, function: Callable[[], object]) -> None:
        """Call a function in the event loop, soon."""

    def send_to_guard(self, line: str) -> None:
        """Send a line to the guard in the machine; to be called in the event loop."""


async def start_announced(connection: Any, argv: Sequence[str]) -> tuple[Any, int | None, bytes]:
    """Start a command that waits for a line of input before it runs.

    Returns:
        asyncssh's process, the process id in the guest, and what was written to standard error
        before. The id is None if the login shell has ended instead of running the command.
    """
    token = secrets.token_hex(8)
    script = f"token={token}\n{guard.ANNOUNCED}"
    process = await connection.create_process(
        shlex.join(["exec", "/bin/sh", "-c", script, "sh", *argv]), encoding=None
    )
    try:
        mark, early_output = f"core-infra-{token} ".encode(), b""
        while b"\n" not in early_output.partition(mark)[2]:
            data = await process.stderr.read(_CHUNK)
            if not data:
                return process, None, early_output
            early_output += data
    except BaseException:
        process.close()  # the command ends at the end of its input
        raise
    before, _, after = early_output.partition(mark)
    number, _, rest = after.partition(b"\n")
    return process, int(number), before + rest


class SshCommand:
    """A command by SSH.

    Args:
        connection: its connection.
        shown: the command, as messages show it.
        process: asyncssh's process.
        pid: its process id in the guest; None if the login shell has ended instead of running it.
        early_output: what was written to its standard error so far.
        deadline: the time of ``time.monotonic`` at which it is killed.
    """

    def __init__(
        self,
        connection: SshConnection,
        shown: str,
        process: Any,
        *,
        pid: int | None,
        early_output: bytes,
        deadline: float | None,
    ) -> None:
        self._connection = connection
        self._shown = shown
        self._process = process
        self._pid = pid
        self._deadline = deadline
        self._output: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(_AHEAD)
        if early_output:
            self._output.put_nowait(("stderr", early_output))
        self._all_read = False
        self._readers = connection.call(self._begin())

    @property
    def exit_code(self) -> int | None:
        """The exit code; minus the signal's number if a signal ended it; None until it is known."""
        code: int | None = self._process.returncode
        return code

    def is_running(self) -> bool:
        """Whether its end is not known yet."""
        return self.exit_code is None

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Its output as it arrives, to the end.

        Raises:
            TimeoutExpiredError: it did not end in time, and was killed.
        """
        while (chunk := self._call(self._next())) is not None:
            yield chunk
        self._call(self._process.wait_closed())
        self._end()

    def send_input(self, data: str | bytes) -> None:
        """Write to its standard input; blocks while the command does not read."""
        self._call(self._send(data.encode() if isinstance(data, str) else data))

    def close_stdin(self) -> None:
        """Close its standard input."""
        self._call(self._end_input())

    def wait(self, timeout: float | None = None) -> int:
        """Discard further output, wait for the command's end and return its exit code."""
        if timeout is None:
            self._call(self._drain())
            return self._end()
        try:
            self._connection.call(self._drain(), timeout)
        except TimeoutError:
            raise TimeoutExpiredError(
                f"{self._shown!r} still runs after {timeout} s", timeout=timeout
            ) from None
        return self._end()

    def kill(self) -> None:
        """End it, with all processes that it has started; waits a few seconds at most."""
        self._end_within(_DIE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self.kill()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._deadline is None:
            return self._connection.call(coroutine)
        try:
            return self._connection.call(coroutine, max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            self._end_within(_DIE_LATE)
            raise TimeoutExpiredError(
                f"{self._shown!r} did not end in time", why="it was killed", timeout=None
            ) from None

    def _end_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            self._connection.call(self._kill(), seconds)

    def _end(self) -> int:
        code = self.exit_code
        if code is None:
            raise NoAccessError(
                f"the connection was lost while {self._shown!r} ran",
                why="the machine, or its SSH server, has ended",
            )
        if self._pid is not None:
            self._connection.later(lambda: self._connection.send_to_guard(f"forget {self._pid}"))
        return code

    async def _begin(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._read_all())

    async def _read_all(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read("stdout", self._process.stdout))
                group.create_task(self._read("stderr", self._process.stderr))
        finally:
            await self._output.put(None)

    async def _read(self, name: str, stream: Any) -> None:
        with contextlib.suppress(
            OSError, self._connection.library.Error
        ):  # the connection was lost
            while data := await stream.read(_CHUNK):
                await self._output.put((name, data))

    async def _send(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionError):
            return  # it has ended without reading; its output may say why

    async def _end_input(self) -> None:
        self._process.stdin.write_eof()

    async def _next(self) -> tuple[str, bytes] | None:
        if self._all_read:
            return None
        chunk = await self._output.get()
        self._all_read = chunk is None
        return chunk

    async def _drain(self) -> None:
        while await self._next() is not None:
            pass
        await self._process.wait_closed()

    async def _kill(self) -> None:
        try:
            if self._pid is not None:
                self._connection.send_to_guard(f"kill {self._pid}")
                await self._drain()
        finally:
            self._process.close()
