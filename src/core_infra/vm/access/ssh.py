"""Into a machine by SSH.

The machine has a key of its own, and its server's key is remembered at the first contact: from
then on nobody else answers in its name. Neither the user's keys, nor their agent, nor their
configuration have a part in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import shlex
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from core_infra.errors import (
    CommandFailedError,
    InvalidError,
    TimeoutExpiredError,
    UnavailableError,
)
from core_infra.vm.access.access import NoAccessError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")

_CHUNK = 1 << 16
_AHEAD = 16  # chunks that are read before anybody asks for them
_LOGIN = 15.0


def library() -> Any:
    """The library that speaks SSH.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        return importlib.import_module("asyncssh")
    except ImportError as error:
        raise UnavailableError(
            "cannot enter a machine by SSH",
            why="this needs asyncssh",
            todo="Install it with: pip install core-infra[ssh]",
        ) from error


def make_key(path: Path) -> str:
    """Make a key; the file *path* gets the private one. The public one, as a line."""
    key = library().generate_private_key("ssh-ed25519", comment="core-infra")
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key("openssh"))
    return str(key.export_public_key("openssh").decode().strip())


def public_key(path: Path) -> str:
    """The public key, as a line, of the private one in the file *path*.

    Raises:
        InvalidError: it is none, or a passphrase is needed.
    """
    asyncssh = library()
    try:
        key = asyncssh.read_private_key(str(path))
    except (OSError, asyncssh.KeyImportError) as error:
        raise InvalidError(f"cannot use the private key {path}", why=str(error)) from error
    return str(key.export_public_key("openssh").decode().strip())


class SshAccess:
    """A connection to a machine's SSH server.

    Args:
        port: of this host's loopback address.
        user: who logs in.
        key: the file with the private key.
        pinned: the file that remembers the server's key; made at the first contact.
        timeout: seconds until the server must have answered.

    Raises:
        NoAccessError: it does not answer, refuses the key, or is another one than it was.
    """

    def __init__(self, port: int, *, user: str, key: Path, pinned: Path, timeout: float) -> None:
        self.library = library()
        self._pinned = pinned
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ssh", daemon=True)
        self._thread.start()
        try:
            self._connection = self.call(self._connect(port, user, key, timeout))
        except BaseException:
            self._end()
            raise

    def start(self, argv: Sequence[str]) -> SshCommand:
        """Start a command, in the home of who has logged in."""
        line = shlex.join(argv)
        try:
            line.encode()
        except UnicodeEncodeError as error:
            raise InvalidError(f"cannot run {line!r} by SSH", why="it is no UTF-8") from error
        return SshCommand(self, line, self.call(self._start(line)))

    async def open_shell(self, term: str, size: tuple[int, int]) -> Any:
        """A login shell on a terminal of its own: asyncssh's process."""
        return await self._connection.create_process(
            term_type=term, term_size=size, encoding=None, stderr=self.library.STDOUT
        )

    async def type_into(self, process: Any, data: bytes) -> None:
        """Type on a shell's terminal; nothing ends its input."""
        with contextlib.suppress(OSError):  # it has just ended
            if data:
                process.stdin.write(data)
            else:
                process.stdin.write_eof()

    def later(self, function: Callable[[], object]) -> None:
        """Call something where the connection lives, soon."""
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Leave; commands that still run are ended by the server."""
        self._loop.call_soon_threadsafe(self._connection.close)
        self.call(self._connection.wait_closed())
        self._end()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """What a coroutine gives, run where the connection lives."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    async def _connect(self, port: int, user: str, key: Path, timeout: float) -> Any:  # noqa: ASYNC109 - told to the library
        asyncssh = self.library
        try:
            trusted = asyncssh.import_public_key(self._pinned.read_text())
        except FileNotFoundError:
            trusted = None
        try:
            async with asyncio.timeout(timeout):
                connection = await asyncssh.connect(
                    "127.0.0.1",
                    port,
                    username=user,
                    client_keys=[str(key)],
                    known_hosts=None if trusted is None else ([trusted], [], []),
                    config=None,
                    agent_path=None,
                    preferred_auth="publickey",
                    login_timeout=min(timeout, _LOGIN),
                    keepalive_interval=15,
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise NoAccessError(
                "the machine's SSH server is not the one that was met first",
                why=f"its key is not the one in {self._pinned}",
                todo="If the machine has made a new one on purpose, delete that file.",
            ) from error
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise NoAccessError(
                f"cannot log in at port {port} as {user} by SSH", why=str(error) or "no answer"
            ) from error
        if trusted is None:
            self._pin(connection.get_server_host_key())
        return connection

    def _pin(self, key: Any) -> None:
        text = key.export_public_key("openssh").decode()
        try:
            with self._pinned.open("x") as file:
                file.write(text)
        except FileExistsError:
            return  # another process's first contact; the next one is checked against it

    async def _start(self, command: str) -> Any:
        try:
            return await self._connection.create_process(command, encoding=None)
        except (OSError, self.library.Error) as error:
            raise CommandFailedError(
                f"cannot run {command!r} by SSH",
                why=str(error),
                command=[command],
                exit_code=-1,
                stdout=b"",
                stderr=b"",
            ) from error

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self) -> None:
        self.call(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SshCommand:
    """A command by SSH."""

    def __init__(self, access: SshAccess, command: str, process: Any) -> None:
        self._access = access
        self._command = command
        self._process = process
        self._output: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(_AHEAD)
        self._all_read = False
        self._readers = access.call(self._begin())

    @property
    def exit_code(self) -> int | None:
        """Minus the signal's number if one ended it; None until its end is read."""
        code: int | None = self._process.returncode
        return code

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """Its output as it comes, to its end."""
        while (chunk := self._access.call(self._next())) is not None:
            yield chunk
        self._access.call(self._process.wait_closed())
        self._end()

    def send_input(self, data: str | bytes) -> None:
        """Write to its standard input; waits while it does not read."""
        self._access.call(self._send(data.encode() if isinstance(data, str) else data))

    def close_stdin(self) -> None:
        """End its standard input."""
        self._access.call(self._end_input())

    def wait(self, timeout: float | None = None) -> int:
        """Drop what it still writes and wait for its end; its exit code."""
        try:
            self._access.call(self._drain(), timeout)
        except TimeoutError:
            raise TimeoutExpiredError(
                f"{self._command!r} still runs after {timeout} s", timeout=timeout
            ) from None
        return self._end()

    def kill(self) -> None:
        """End it: by a signal where the server knows that, and by closing its line."""
        self._access.call(self._kill())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self.kill()

    def _end(self) -> int:
        code = self.exit_code
        if code is None:
            raise NoAccessError(
                f"the connection was lost while {self._command!r} ran",
                why="the machine, or its SSH server, has ended",
            )
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
        with contextlib.suppress(OSError, self._access.library.Error):  # the connection was lost
            while data := await stream.read(_CHUNK):
                await self._output.put((name, data))

    async def _send(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionError):
            return  # it has ended without reading: what it says of that is in its output

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
        self._process.kill()
        self._process.close()
