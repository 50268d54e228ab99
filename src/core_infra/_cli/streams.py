"""The standard streams of a command: all open, and an error of ours if output cannot be written.

Python writes what is left in the buffers at its very end; if that fails, it replaces the exit code
by 120.
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
"""What becomes of text that a stream cannot encode: a report is read by people, who rather see an
escape than no report.
"""


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write bytes that were no text as they are, and escape the rest."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


codecs.register_error("core-infra-escape", _escape)


class _Messages(io.FileIO):
    """Standard error. If it cannot be written, nobody can be told: the exit code remains."""

    failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all or a part of it; after the first error, it goes nowhere."""
        try:
            while not self.failed:
                written = super().write(data)
                if written is not None:
                    return written
                # Whoever gave it to us has set it not to block, and the reader is slow.
                select.select([], [self], [])
        except OSError as error:
            self.failed = True
            self.complain(error)
        return memoryview(data).nbytes

    def complain(self, error: OSError) -> None:
        """Say that it cannot be written."""


class _Output(_Messages):
    """Standard output. If it cannot be written, the command has failed."""

    def complain(self, error: OSError) -> None:
        """Raise what cannot be written."""
        if isinstance(error, BrokenPipeError):
            raise error  # The reader has seen enough: click ends the command quietly.
        raise UnavailableError("the output cannot be written", why=str(error.strerror)) from error


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Within the block, standard output raises UnavailableError if it cannot be written.

    Streams that others have put in place of the process's own are left as they are.
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
    """Open what of the standard streams was closed: reading ends at once, writing goes nowhere.

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
