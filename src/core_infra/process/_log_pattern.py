"""The probe for a line of a program's output."""

from __future__ import annotations

import dataclasses
import re
import weakref
from typing import TYPE_CHECKING, ClassVar

from core_infra.errors import InvalidError
from core_infra.process._output import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core_infra.process._events import Stream
    from core_infra.process._process import Process

_PIECE = 32 << 10


@dataclasses.dataclass
class LogPattern:
    r"""A line of its output, on either stream, matches a regular expression.

    Each line is searched by itself, once it has ended (``\n`` or ``\r\n``), or the program has.
    After a restart only the output since then counts.

    Attributes:
        pattern: searched for in each line; a string, or compiled.
        after: the offset to start at: the ``end`` of an earlier :meth:`Process.read`.
        unended: also search a line that has not ended yet, such as a prompt. The match may then be
            a part of what it will be.
        match: the match; None before.

    Raises:
        InvalidError: the pattern is not a regular expression, or one of several lines.
    """

    pattern: str | re.Pattern[str]
    after: int = dataclasses.field(default=0, repr=False, kw_only=True)
    unended: bool = dataclasses.field(default=False, repr=False, kw_only=True)
    waits: ClassVar[bool] = True
    match: re.Match[str] | None = dataclasses.field(default=None, init=False, repr=False)
    _lines: _Lines | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        text = getattr(self.pattern, "pattern", self.pattern)
        what = f"cannot look for {text!r} in the output"
        if not isinstance(text, str):
            raise InvalidError(what, why="it must be a string", todo="Lines are text, not bytes.")
        after: object = self.after
        if not (isinstance(after, int) and after >= 0):
            raise InvalidError(what, why=f"after is {after!r}, which is not an offset")
        try:
            self._found = re.compile(self.pattern).search
        except re.error as error:
            raise InvalidError(what, why=f"it is not a regular expression: {error}") from None
        if "\n" in text.rstrip("\n") and not re.compile(self.pattern).flags & re.VERBOSE:
            todo = "Give one pattern for each line."
            raise InvalidError(what, why="each line is searched by itself", todo=todo)

    def check(self, process: Process, patience: float) -> str | None:
        """Search what it has written since the last check; waits for more.

        Raises:
            InvalidError: its output is not kept.
        """
        _refuse_unkept(process)
        lines = self._lines
        if lines is None or not lines.are_of(process):
            self._lines = lines = _Lines(process, self.after)
            self.match = None
        if self.match is None:
            found = map(self._found, lines.read(patience, unended=self.unended))
            self.match = next(filter(None, found), None)
        return None if self.match else lines.describe()


class _Lines:
    """The lines of one run of a process, from an offset on."""

    def __init__(self, process: Process, after: int) -> None:
        self._process = weakref.ref(process)
        self._restarts = process.restarts
        self._begin = self._offset = max(after, process.run_start)
        self._lost = 0
        self._splitters: dict[Stream, LineSplitter] = {}

    def are_of(self, process: Process) -> bool:
        """Whether they are those of its current run."""
        return self._process() is process and self._restarts == process.restarts

    def read(self, patience: float, *, unended: bool) -> Iterator[str]:
        """Lines that have come since, with their ends; waits for output."""
        process = self._process()
        assert process is not None  # noqa: S101 - the caller has it
        is_over = process.over.is_set()
        data, lost, self._offset = process.read_by_stream(self._offset, patience)
        self._lost += lost
        for stream, part in data:
            splitter = self._splitters.setdefault(stream, LineSplitter())
            for at in range(0, len(part), _PIECE):
                parts, piece = splitter.overflow(part[at : at + _PIECE])
                yield from (part.text for part in parts)
                yield from (f"{line}\n" for line in splitter.feed(piece))
        for splitter in self._splitters.values():
            if is_over or unended:
                yield splitter.peek()

    def describe(self) -> str:
        """The reason for an error: no line matched, and where one might be."""
        text = f"no line matches in {self._offset - self._begin} bytes of output"
        if self._lost:
            text += f"; {self._lost} of them are no longer kept (buffer_size)"
        for splitter in self._splitters.values():
            if line := splitter.peek():
                text += f"; the line {line[-100:]!r} has not ended yet (unended=True searches it)"
        return text


def _refuse_unkept(process: Process) -> None:
    options = process.options
    why = ""
    if options.log is not None:
        why = "it goes to a log file"
    elif options.detach:
        why = "the output of a detached program is not captured"
    elif options.disable_capture:
        why = "disable_capture"
    if why:
        raise InvalidError(
            f"there is no output of {process} to look for a pattern in",
            why=why,
            todo="Keep it, or wait for something else: a port, a file.",
        )
