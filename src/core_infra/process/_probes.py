"""Probes for the readiness of a program.

A probe is checked again and again. It returns None when its condition is met, and otherwise the
reason why it is not, for the error at the end of a long wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import io
import re
import string
import urllib.parse
from collections.abc import Collection
from typing import TYPE_CHECKING

from core_infra._eventloop.sockets import Received, short_path
from core_infra._unpatched import Path, os, socket, time
from core_infra.errors import InvalidError
from core_infra.framework._handlers import is_async, refuse_coroutine
from core_infra.process._listeners import foreign_listener, foreign_unix_listener
from core_infra.process._values import is_command, is_number, is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra.process._process import Probe, Process

_TIMEOUT = 10.0
_MAX_PORT = 65535
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")
"""Characters that no URL has."""


@dataclasses.dataclass(frozen=True)
class TcpPort:
    """The program, or something that it started, accepts connections on a TCP port.

    A port of this host that another program listens on does not count. It does where that cannot be
    found out: on another host, in another network namespace (a container's), for a port that the
    kernel forwards, and without /proc.

    Attributes:
        port: the port.
        host: its host name or address.
        any_program: any program may accept, such as a proxy that listens for it (Docker's).
        timeout: seconds that one check may take.

    Raises:
        InvalidError: there is no such port.
    """

    port: int
    host: str = "127.0.0.1"
    any_program: bool = dataclasses.field(default=False, repr=False, kw_only=True)
    timeout: float = dataclasses.field(default=_TIMEOUT, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        port: object = self.port
        if not (is_whole(port) and 0 < self.port <= _MAX_PORT):
            raise InvalidError(
                f"there is no TCP port {self.port!r}", why=f"it must be 1 to {_MAX_PORT}"
            )
        _check_name(self, self.host)
        _check_timeout(self, self.timeout)

    def check(self, process: Process, patience: float) -> str | None:
        """Connect."""
        try:
            with socket.create_connection((self.host, self.port), timeout=patience) as connection:
                return None if self.any_program else _foreign(connection, process)
        except (OSError, ValueError) as error:
            return _reason(error)


@dataclasses.dataclass(frozen=True)
class UnixSocket:
    """The program, or something that it started, accepts connections on a UNIX stream socket.

    Attributes:
        path: the socket; a relative path is relative to the program's directory. An abstract name
            begins with a NUL character.
        any_program: any program may accept.
        timeout: seconds that one check may take.

    Raises:
        InvalidError: no socket can have such a name.
    """

    path: str | os.PathLike[str]
    any_program: bool = dataclasses.field(default=False, repr=False, kw_only=True)
    timeout: float = dataclasses.field(default=_TIMEOUT, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        _check_name(self, _path_of(self, self.path).removeprefix("\0"))
        _check_timeout(self, self.timeout)

    def check(self, process: Process, patience: float) -> str | None:
        """Connect."""
        path = os.fspath(self.path)
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(patience)
            try:
                address = path
                if not path.startswith("\0"):
                    path = _from_its_directory(process, path)
                    address = stack.enter_context(short_path(Path(path)))
                client.connect(address)
                pids = () if self.any_program else process.leftovers()
                return None if self.any_program else foreign_unix_listener(client, path, pids)
            except (OSError, ValueError) as error:
                return _reason(error)


@dataclasses.dataclass(frozen=True)
class HttpStatus:
    """A GET of a URL returns one of some status codes; redirects are not followed.

    A server on this host must be the program or something that it started, as for
    :class:`TcpPort`, or this process itself, for a server that a test runs.

    Attributes:
        url: the URL.
        status: a status code, or several.
        any_program: any program may answer.
        timeout: seconds that one check may take.

    Raises:
        InvalidError: it is not an HTTP URL, or the status is not a number.
    """

    url: str
    status: int | Collection[int] = 200
    any_program: bool = dataclasses.field(default=False, repr=False, kw_only=True)
    timeout: float = dataclasses.field(default=_TIMEOUT, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            good = good and not _FORBIDDEN.search(self.url)
        except (ValueError, TypeError, AttributeError):
            good = False
        if not good:
            raise InvalidError(
                f"cannot ask {self.url!r}", why="it must be an http:// or https:// URL"
            )
        _check_name(self, self.url)
        _check_timeout(self, self.timeout)
        codes = self._codes()
        if not codes or not all(map(is_whole, codes)):
            raise InvalidError(
                f"cannot expect the status {self.status!r}",
                why="it must be a whole number, or a list of these",
            )

    def _codes(self) -> Collection[int]:
        status: object = self.status
        if isinstance(status, str | bytes) or not isinstance(status, Collection):
            return (self.status,)  # type: ignore[return-value] # a single one
        return status

    def check(self, process: Process, patience: float) -> str | None:
        """Send the request, without any proxy."""
        parts = urllib.parse.urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        deadline = time.monotonic() + patience
        connection = kind(parts.hostname or "", parts.port, timeout=patience)
        path = urllib.parse.quote(parts.path or "/", safe=string.punctuation)
        query = urllib.parse.quote(parts.query, safe=string.punctuation)
        try:
            connection.connect()
            if not self.any_program and (why := _foreign(connection.sock, process, os.getpid())):
                return why
            connection.request("GET", f"{path}?{query}" if query else path)
            found = _status(connection.sock, deadline)
        except (OSError, ValueError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        finally:
            connection.close()
        return None if found in self._codes() else f"the answer is {found}"


@dataclasses.dataclass(frozen=True)
class FileExists:
    """A file, or anything else with this path, exists.

    Attributes:
        path: the path; a relative one is relative to the program's directory.

    Raises:
        InvalidError: no file can have such a name.
    """

    path: str | os.PathLike[str]

    def __post_init__(self) -> None:
        _check_name(self, _path_of(self, self.path))

    def check(self, process: Process, patience: float) -> str | None:  # noqa: ARG002 - of Probe
        """Look for it."""
        path = _from_its_directory(process, os.fspath(self.path))
        return None if os.path.exists(path) else "it does not exist"


@dataclasses.dataclass(frozen=True)
class CommandSucceeds:
    """A command ends with exit code 0, such as ``pg_isready``.

    It gets the program's environment and directory. What it leaves running is killed.

    Attributes:
        command: the program and its arguments.
        timeout: seconds that one run may take.
    """

    command: Sequence[str]
    timeout: float = dataclasses.field(default=_TIMEOUT, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not is_command(self.command):
            raise InvalidError(f"{self.command!r} is not a command", todo="Give a list of words.")
        _check_timeout(self, self.timeout)

    def check(self, process: Process, patience: float) -> str | None:
        """Run it."""
        ran = process.run_beside(self.command, patience)
        if ran.error is not None:
            return str(ran.error)
        if ran.timed_out:
            return f"it still ran after {patience:.1f} s"
        lines = ran.output.strip().splitlines()
        code = ran.exit_code
        return None if code == 0 else f"exit code {code}: {' '.join(lines[-1:])}"


@dataclasses.dataclass(frozen=True)
class Check:
    """A function of yours returns something true; an exception means not yet.

    Attributes:
        function: the function; called without arguments.

    Raises:
        InvalidError: it cannot be called, or is async: its result would not be awaited.
    """

    function: Callable[[], object]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InvalidError(f"cannot call {self.function!r}", todo="Give a function.")
        if is_async(self.function):
            raise InvalidError(f"cannot wait for {self.function!r}", why="it is async")

    def check(self, process: Process, patience: float) -> str | None:  # noqa: ARG002 - of Probe
        """Call it."""
        try:
            answer = self.function()
        except Exception as error:  # noqa: BLE001 - reported, if the time is over
            return f"{type(error).__name__}: {error}"
        refuse_coroutine(answer, repr(self))
        return None if answer else f"it returned {answer!r}"


def _foreign(connection: socket.socket, process: Process, *others: int) -> str | None:
    why = foreign_listener(connection, [*process.leftovers(), *others])
    return f"{why} (any_program=True takes it)" if why else None


def _status(connection: socket.socket, deadline: float) -> int:
    """Read the head of an answer; TimeoutError at the deadline, however often a little arrives."""
    with http.client.HTTPResponse(connection, method="GET") as response:
        response.fp.close()
        response.fp = io.BufferedReader(Received(connection, deadline))
        response.begin()
        return response.status


def _from_its_directory(process: Process, path: str) -> str:
    return os.path.join(process.options.directory(), path)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _path_of(probe: Probe, path: object) -> str:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise InvalidError(f"cannot look for {probe!r}", why="its path must be a string or a path")
    return text


def _check_name(probe: Probe, name: object) -> None:
    """Raise InvalidError for a name that the system would truncate, or cannot get."""
    if not isinstance(name, str):
        raise InvalidError(f"cannot look for {probe!r}", why=f"{name!r} is not a string")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        good = False
    else:
        good = "\0" not in name
    if not good:
        raise InvalidError(
            f"cannot look for {probe!r}",
            why="it contains a NUL, or characters that cannot be encoded",
        )


def _check_timeout(probe: Probe, timeout: float) -> None:
    if not is_number(timeout) or not timeout > 0:
        raise InvalidError(
            f"the timeout of {probe!r} is {timeout!r}", why="it must be a number above 0"
        )
