"""The way into a machine by SSH.

Each machine has a key pair of its own, and its server's key is pinned at the first contact. The
user's own keys, SSH agent and configuration are not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import shlex
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from core_infra._unpatched import time
from core_infra.errors import (
    CommandFailedError,
    InvalidError,
    TimeoutExpiredError,
    UnavailableError,
)
from core_infra.vm._access import guard
from core_infra.vm._access.interface import NoAccessError
from core_infra.vm._access.ssh_command import SshCommand, start_announced

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

T = TypeVar("T")

_LOGIN = 15.0
_LEAVE = 2.0
"""Seconds for the server to close the connection."""


def library() -> Any:
    """The module asyncssh.

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
    """Create a key pair: write the private key to *path* and return the public key as a line."""
    key = library().generate_private_key("ssh-ed25519", comment="core-infra")
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key("openssh"))
    return str(key.export_public_key("openssh").decode().strip())


def public_key(path: Path) -> str:
    """The public key, as a line, of the private key in the file *path*.

    Raises:
        InvalidError: the file is not a private key, or needs a passphrase.
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
        port: a port of this host's loopback address that leads to the server.
        user: the user to log in as.
        key: the file with the private key.
        pinned: the file with the server's key; written at the first contact.
        timeout: seconds until the server must answer.
        login: seconds for the login, after the connection was accepted. QEMU accepts it before the
            server runs.

    Raises:
        NoAccessError: the server does not answer, refuses the key, or has another key than before.
    """

    def __init__(
        self,
        port: int,
        *,
        user: str,
        key: Path,
        pinned: Path,
        timeout: float,
        login: float = _LOGIN,
    ) -> None:
        self.library = library()
        self._pinned = pinned
        self._guard: Any = None
        self._guarding = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ssh", daemon=True)
        self._thread.start()
        try:
            self._connection = self.call(self._connect(port, user, key, timeout, login))
        except BaseException:
            self._end()
            raise

    def start(self, argv: Sequence[str], *, timeout: float | None = None) -> SshCommand:
        """Start a command, in the home directory of the user who is logged in."""
        deadline = None if timeout is None else time.monotonic() + timeout
        line = shlex.join(argv)
        try:
            line.encode()
        except UnicodeEncodeError as error:
            raise InvalidError(f"cannot run {line!r} by SSH", why="it must be UTF-8") from error
        try:
            process, pid, early_output = self.call(self._start(line, argv), timeout)
        except TimeoutError:
            raise TimeoutExpiredError(
                f"{line!r} did not start within {timeout} s by SSH",
                why="the machine does not answer",
                timeout=timeout,
            ) from None
        return SshCommand(
            self, line, process, pid=pid, early_output=early_output, deadline=deadline
        )

    def send_to_guard(self, line: str) -> None:
        """Send a line to the script :data:`~.guard.WATCH`; to be called in the event loop."""
        with contextlib.suppress(OSError, self.library.Error):  # the connection was lost
            self._guard.stdin.write(f"{line}\n".encode())

    async def open_shell(self, term: str, size: tuple[int, int]) -> Any:
        """Start a login shell on a new terminal; returns asyncssh's process."""
        return await self._connection.create_process(
            term_type=term, term_size=size, encoding=None, stderr=self.library.STDOUT
        )

    async def type_into(self, process: Any, data: bytes) -> None:
        """Send input to a shell's terminal; empty data closes it."""
        with contextlib.suppress(OSError):  # it has just ended
            if data:
                process.stdin.write(data)
            else:
                process.stdin.write_eof()

    def later(self, function: Callable[[], object]) -> None:
        """Call a function in the event loop, soon."""
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Close the connection; the guard in the machine ends commands that still run."""
        self._loop.call_soon_threadsafe(self._connection.close)
        try:
            self.call(self._connection.wait_closed(), _LEAVE)
        except TimeoutError:
            self._loop.call_soon_threadsafe(self._connection.abort)
        finally:
            self._end()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the event loop and return its result."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    async def _connect(
        self,
        port: int,
        user: str,
        key: Path,
        timeout: float,  # noqa: ASYNC109 - passed to the library
        login: float,
    ) -> Any:
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
                    login_timeout=min(timeout, login),
                    keepalive_interval=15,
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise NoAccessError(
                "the machine's SSH server has another key than at the first contact",
                why=f"its key differs from the one in {self._pinned}",
                todo="If the machine has made a new key on purpose, delete that file.",
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
            return  # another process was first; the next connection is checked against its key

    async def _start(self, shown: str, argv: Sequence[str]) -> tuple[Any, int | None, bytes]:
        """Start a watched command: its process, its id, and what was written before it ran."""
        try:
            async with self._guarding, asyncio.TaskGroup() as group:
                if self._guard is None:
                    group.create_task(self._start_guard())
                started = group.create_task(start_announced(self._connection, argv))
            process, pid, early_output = await started
            if pid is not None:
                self.send_to_guard(f"watch {pid}")
                process.stdin.write(b"go\n")
        except* (OSError, self.library.Error) as errors:
            raise CommandFailedError(
                f"cannot run {shown!r} by SSH",
                why="; ".join(str(error) for error in errors.exceptions),
                command=[*argv],
                exit_code=-1,
                stdout=b"",
                stderr=b"",
            ) from errors
        return process, pid, early_output

    async def _start_guard(self) -> None:
        self._guard = await self._connection.create_process(
            shlex.join(["exec", *guard.hidden(guard.WATCH)]),
            stdout=self.library.DEVNULL,
            stderr=self.library.DEVNULL,
            encoding=None,
        )

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
