"""The standard streams of a command: all open, with a clear error if output cannot be written.

Python itself flushes its buffers only at exit; if that fails, it replaces the exit code by 120.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

from core_infra.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
_ESCAPED = {"strict": "backslashreplace", "surrogateescape": "core-infra-escape"}
"""How to write text that a stream cannot encode: people prefer an escape to no output."""


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write bytes that could not be decoded as they are, and escape the rest."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error("core-infra-escape", _escape)


class _Messages(io.FileIO):
    """Standard error. If it cannot be written, only the exit code remains."""

    failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all or a part of it; after the first error, discard it."""
        try:
            while not self.failed:
                written = super().write(data)
                if written is not None:
                    return written
                # The parent process has made it non-blocking, and the reader is slow.
                select.select([], [self], [])
        except OSError as error:
            self.failed = True
            self.complain(error)
        return memoryview(data).nbytes

    def complain(self, error: OSError) -> None:
        """Report that it cannot be written: not possible here."""


class _Output(_Messages):
    """Standard output. If it cannot be written, the command has failed."""

    def complain(self, error: OSError) -> None:
        """Raise an error."""
        if isinstance(error, BrokenPipeError):
            raise error  # the reader has closed it: click ends the command quietly
        raise UnavailableError("the output cannot be written", why=str(error.strerror)) from error


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Within the block, standard output raises UnavailableError if it cannot be written.

    Streams that replace the process's own ones are not changed.
    """
    _open_closed()
    output, messages = sys.stdout, sys.stderr
    sys.stdout = _checked(output, sys.__stdout__, _Output)
    sys.stderr = _checked(messages, sys.__stderr__, _Messages)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = output, messages


def _open_closed() -> None:
    """Open closed standard streams: reading ends at once, output is discarded.

    Otherwise the next file that is opened would become one of them, here or in a child.
    """
    for name, mode in _STREAMS:
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115
            os.set_inheritable(stream.fileno(), True)  # noqa: FBT003
            setattr(sys, name, stream)


def _checked(stream: TextIO, own: TextIO | None, kind: type[_Messages]) -> TextIO:
    if stream is not own:
        return stream
    stream.flush()
    raw = kind(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=_ESCAPED.get(stream.errors or "strict", stream.errors),
        line_buffering=raw.isatty() or kind is _Messages,
    )
