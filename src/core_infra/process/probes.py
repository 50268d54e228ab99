"""How to see that a program is ready for use.

A probe is asked again and again. It returns None when what it looks for is there, and otherwise
says why it is not, for the error that ends a long wait.
"""

from __future__ import annotations

import dataclasses
import http.client
import re
import socket
import subprocess
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Sequence

    from core_infra.process.process import Process

_TAIL = 64 * 1024


class Probe(Protocol):
    """What :meth:`Process.wait_ready` asks; its repr names it in errors."""

    def check(self, process: Process, patience: float) -> str | None:
        """Look once; None if it is ready, else why it is not.

        Args:
            process: which one.
            patience: seconds that this may take at most.
        """


@dataclasses.dataclass
class LogPattern:
    """A line of its output, on either stream, has a match of this regular expression.

    Attributes:
        pattern: searched for in each line, and in the one that is not ended yet.
        match: what was found.
    """

    pattern: str
    match: re.Match[str] | None = dataclasses.field(default=None, init=False, repr=False)
    _offset: int = dataclasses.field(default=0, init=False, repr=False)
    _line: str = dataclasses.field(default="", init=False, repr=False)

    def check(self, process: Process, patience: float) -> str | None:
        """Look at what it has written since; waits for more."""
        piece = process.read(self._offset, patience)
        self._offset = piece.end
        text = self._line + piece.data.decode(errors="replace")
        self.match = self.match or re.search(self.pattern, text, re.MULTILINE)
        self._line = text.rpartition("\n")[2][-_TAIL:]
        if self.match:
            return None
        return f"no line matches in {self._offset} bytes of output"


@dataclasses.dataclass(frozen=True)
class TcpPort:
    """Somebody accepts connections on a TCP port."""

    port: int
    host: str = "127.0.0.1"

    def check(self, process: Process, patience: float) -> str | None:  # noqa: ARG002 - any will do
        """Connect."""
        try:
            socket.create_connection((self.host, self.port), timeout=patience).close()
        except OSError as error:
            return error.strerror or str(error)
        return None


@dataclasses.dataclass(frozen=True)
class UnixSocket:
    """Somebody accepts connections on a UNIX stream socket."""

    path: str | os.PathLike[str]

    def check(self, process: Process, patience: float) -> str | None:  # noqa: ARG002 - any will do
        """Connect."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(patience)
            try:
                client.connect(str(self.path))
            except OSError as error:
                return error.strerror or str(error)
        return None


@dataclasses.dataclass(frozen=True)
class HttpStatus:
    """A GET of this URL is answered with one of these status codes; redirects are answers."""

    url: str
    status: int | Collection[int] = 200

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidError(f"cannot ask {self.url!r}", why="it is no http:// or https:// URL")

    def check(self, process: Process, patience: float) -> str | None:  # noqa: ARG002 - any will do
        """Ask, without any proxy."""
        parts = urllib.parse.urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=patience)
        path = parts.path or "/"
        try:
            connection.request("GET", f"{path}?{parts.query}" if parts.query else path)
            found = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        finally:
            connection.close()
        wanted = (self.status,) if isinstance(self.status, int) else self.status
        return None if found in wanted else f"the answer is {found}"


@dataclasses.dataclass(frozen=True)
class FileExists:
    """A file, or anything else of that path, is there."""

    path: str | os.PathLike[str]

    def check(self, process: Process, patience: float) -> str | None:  # noqa: ARG002 - any will do
        """Look."""
        return None if Path(self.path).exists() else "it is not there"


@dataclasses.dataclass(frozen=True)
class CommandSucceeds:
    """A command ends with exit code 0, such as ``pg_isready``."""

    command: Sequence[str]

    def check(self, process: Process, patience: float) -> str | None:  # noqa: ARG002 - any will do
        """Run it."""
        try:
            ran = subprocess.run(
                self.command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it still ran after {patience:.1f} s"
        except OSError as error:
            return str(error)
        said = (ran.stderr or ran.stdout).decode(errors="replace").strip().splitlines()
        return None if ran.returncode == 0 else f"exit code {ran.returncode}: {' '.join(said[-1:])}"


@dataclasses.dataclass(frozen=True)
class Check:
    """A function of yours returns something true; what it raises means not yet."""

    function: Callable[[], object]

    def check(self, process: Process, patience: float) -> str | None:  # noqa: ARG002 - not ours
        """Call it."""
        try:
            answer = self.function()
        except Exception as error:  # noqa: BLE001 - told, if the time is over
            return f"{type(error).__name__}: {error}"
        return None if answer else f"it returned {answer!r}"
