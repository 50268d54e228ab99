"""A guest for asyncio: the same commands and errors, without a thread that waits."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol, Self

from core_infra._unpatched import signal, time
from core_infra.errors import InvalidError, TimeoutExpiredError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._guest import waiting
from core_infra.vm._guest.channel import STREAMS
from core_infra.vm._guest.command import Output, as_argv, last_lines, lines_of

if TYPE_CHECKING:
    import os
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Mapping,
        Sequence,
    )

    from core_infra.vm._guest.calls import GuestCalls
    from core_infra.vm._guest.channel import Chunk
    from core_infra.vm._guest.command import RunningCommand
    from core_infra.vm._guest.results import ExecResult, OutputLine
    from core_infra.vm._guest.timeline import Step


class FileCopier(Protocol):
    """The part of a guest that has no asynchronous form."""

    def push(
        self, source: str | os.PathLike[str], target: str, *, timeout: float | None = None
    ) -> None:
        """Copy a file or a directory into the guest."""

    def pull(
        self, source: str, target: str | os.PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Copy a file or a directory of the guest."""


class AsyncGuest:
    """The type of ``machine.aio``; arguments and errors are those of the machine's own methods.

    Cancelling a call ends its command in the guest, with all of its process group. Files are copied
    on a thread, as asyncio has no file operations.
    """

    def __init__(self, guest: FileCopier, calls: GuestCalls) -> None:
        self._guest = guest
        self._calls = calls
        self._timeline = calls.timeline

    async def exec(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        input: str | bytes | None = None,  # noqa: A002 - subprocess's name for it
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        timeout: float | None = None,  # noqa: ASYNC109 - the same as without asyncio
        check: bool = False,
    ) -> ExecResult:
        """Run a command to its end, and keep all its output; as ``Machine.exec``."""
        limit = timeouts.limit(timeout, 60)
        argv = as_argv(command)
        with self._calls.executed(argv, limit, cwd, user) as step:
            result = await self._run(
                argv, limit, input=input, env=env, cwd=cwd, user=user, step=step
            )
            self._timeline.add_result(step, result)
        return result.check() if check else result

    def stream(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        timeout: float | None = None,
    ) -> AsyncGuestProcess:
        """Start a command and follow it; as ``Machine.stream``, for an ``async with`` block."""
        step = self._calls.streamed(command, cwd, user)

        def start() -> RunningCommand:
            return self._calls.start(
                command, env=env, cwd=cwd, user=user, timeout=timeout, step=step
            )

        return AsyncGuestProcess(start, self._greet)

    async def wait_until_succeeds(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same as without asyncio
    ) -> ExecResult:
        """Run a command repeatedly until it succeeds; as ``Machine.wait_until_succeeds``."""
        return await self._take(waiting.until_succeeds(self._timeline, command, timeout))

    async def wait_for_file(self, path: str, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait until *path* exists in the guest; as ``Machine.wait_for_file``."""
        await self._take(waiting.for_file(self._timeline, path, timeout))

    async def wait_for_port(self, port: int, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait until a program listens on a TCP *port*; as ``Machine.wait_for_port``."""
        await self._take(waiting.for_port(self._timeline, port, timeout))

    async def push(
        self,
        source: str | os.PathLike[str],
        target: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same as without asyncio
    ) -> None:
        """Copy a file or a directory into the guest, on a thread; as ``Machine.push``."""
        await asyncio.to_thread(self._guest.push, source, target, timeout=timeout)

    async def pull(
        self,
        source: str,
        target: str | os.PathLike[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same as without asyncio
    ) -> None:
        """Copy a file or a directory of the guest, on a thread; as ``Machine.pull``."""
        await asyncio.to_thread(self._guest.pull, source, target, timeout=timeout)

    async def _greet(self) -> None:
        if self._calls.needs_greeting():  # the agent has ended; rare, and takes about a second
            await asyncio.to_thread(self._calls.agent)

    async def _run(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        limit: float,
        *,
        input: str | bytes | None = None,  # noqa: A002 - as in exec
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        step: Step | None = None,
    ) -> ExecResult:
        def start() -> RunningCommand:
            return self._calls.start(
                command,
                env=env,
                cwd=cwd,
                user=user,
                timeout=limit,
                no_input=input is None,
                step=step,
            )

        async with AsyncGuestProcess(start, self._greet) as process:
            if input is not None:
                await process.send_input(input)
            process.close_stdin()
            return await process.collect()

    async def _take(self, steps: waiting.Steps) -> ExecResult:
        """Take the steps of waiting, on the event loop."""
        try:
            step = next(steps)
            while True:
                try:
                    if step is None:
                        with self._calls.working():
                            await asyncio.sleep(waiting.INTERVAL)
                        result = waiting.NOTHING
                    else:
                        result = await self._run(step.command, step.limit, **step.place)
                except BaseException as error:  # noqa: BLE001 - the steps raise it again
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            found: ExecResult = end.value
            return found


class AsyncGuestProcess:
    """A command that runs in the guest, in an ``async with`` block, whose end kills it.

    Iterate over it for its lines as they arrive: ``async for line in process``.
    """

    def __init__(
        self, start: Callable[[], RunningCommand], greet: Callable[[], Awaitable[None]]
    ) -> None:
        self._start = start
        self._greet = greet
        self._changed = asyncio.Event()
        self._started: RunningCommand | None = None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal's number if one ended it; None until that is read."""
        return self._running.exit_code

    async def __aenter__(self) -> Self:
        await self._greet()
        loop = asyncio.get_running_loop()

        def changed() -> None:  # on the supervisor's thread
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._changed.set)

        self._started = self._start()
        self._started.channel.listen(changed)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.end()

    async def __aiter__(self) -> AsyncGenerator[OutputLine]:
        partial: dict[str, bytes] = {}
        async for stream, data in self.chunks():
            for line in lines_of(partial, stream, data):
                yield line
        for line in last_lines(partial):
            yield line

    async def chunks(self) -> AsyncIterator[tuple[str, bytes]]:
        """Its output as it arrives: pairs of stream ("stdout", "stderr") and bytes.

        Raises:
            GuestCommandTimeoutError: the command's time is up; it was killed.
        """
        while chunks := await self._read(Output(self._running)):
            for stream, data in chunks:
                if self._running.step is not None:
                    self._running.step.add_output(data)
                yield STREAMS[stream], data
        self._running.read_end()

    async def collect(self) -> ExecResult:
        """Read it to its end; its whole output and its exit code.

        Raises:
            GuestCommandTimeoutError: the command's time is up; it was killed.
        """
        output = Output(self._running)
        while chunks := await self._read(output):
            output.add(chunks)
        return output.result()

    async def wait(self) -> int:
        """Drop what it still writes and wait for its end; its exit code."""
        while await self._read(Output(self._running)):
            pass
        return self._running.read_end()

    async def send_input(self, data: str | bytes) -> None:
        """Write to its standard input; waits while it does not read."""
        while True:
            self._changed.clear()
            try:
                self._running.write(data, 0.0)
            except TimeoutExpiredError:
                await self._await_change(Output(self._running))
            else:
                return

    def close_stdin(self) -> None:
        """End its standard input."""
        self._running.channel.close_input()

    def signal(self, number: int) -> None:
        """Send a signal to the command and what it started in its process group."""
        self._running.signal(number)

    def kill(self) -> None:
        """Send SIGKILL to the command and what it started in its process group."""
        self._running.signal(signal.SIGKILL)

    @property
    def _running(self) -> RunningCommand:
        if self._started is None:
            raise InvalidError(
                "the command has not been started",
                todo="Use it as: async with machine.aio.stream(...) as process",
            )
        return self._started

    async def _read(self, output: Output) -> list[Chunk]:
        while True:
            self._changed.clear()  # before looking, so that no change is missed
            try:
                return self._running.channel.read(0.0)
            except TimeoutExpiredError:
                await self._await_change(output)

    async def _await_change(self, output: Output) -> None:
        deadline = self._running.deadline
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                await self._changed.wait()
        except TimeoutError:
            output.time_out()
