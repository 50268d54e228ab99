"""A YAML file as nodes that know their places, within limits."""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from typing import TypeAlias

import yaml

from core_infra._yaml.mistakes import file_error, in_order
from core_infra._yaml.scanner import Scanner
from core_infra.errors import InvalidFileError, Mistake

Entries: TypeAlias = dict[str, tuple[yaml.Node, yaml.Node]]
"""The key and the value of each name of a mapping."""
SIZE_MAX = 16 << 20
DEPTH_MAX = 32
TAG = "tag:yaml.org,2002:"
_READS_MAX = 100_000
"""Fields that may be read, and four for each character: more come from aliases alone."""
_LINE_BREAK = re.compile(r"\r\n?|\n")


class TooManyError(Exception):
    """Aliases make the document too large."""


class Document:
    """A YAML file.

    Attributes:
        file: its path.
        mistakes: those found so far, in the order in which they were found.
        root: the node of the whole; None if there is none for a mistake.
        null_is_missing: whether a field that is null counts as missing.
        merged: the entries of each mapping that was read, by the id of its node.
        merging: the ids of mappings that are being read.
    """

    def __init__(
        self,
        data: bytes,
        file: str,
        *,
        size_max: int = SIZE_MAX,
        null_is_missing: bool = False,
        has_block_comments: bool = False,
    ) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self.null_is_missing = null_is_missing
        self.merged: dict[int, Entries] = {}
        self.merging: set[int] = set()
        self._text = ""
        self.root = self._parse(data, size_max, has_block_comments=has_block_comments)
        self._reads = _READS_MAX + 4 * len(self._text)

    def check(self, error: type[InvalidFileError] = InvalidFileError) -> None:
        """Raise *error* if there is a mistake."""
        if self.mistakes:
            raise file_error(error, self.file, in_order(self.mistakes))

    def note(self, line: int, column: int, field: str, message: str, expected: str = "") -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(self.file, line, field, message, column, expected))

    def place(self, mark: yaml.Mark | None) -> tuple[int, int]:
        """The line and column of a mark, as editors count them; the last line for the end."""
        index = mark.index if mark else 0
        line = bisect_right(self._starts, index)
        return line, index - self._starts[line - 1] + 1

    def count(self) -> None:
        """Count a field that is read."""
        self._reads -= 1
        if self._reads < 0:
            raise TooManyError

    @cached_property
    def _starts(self) -> list[int]:
        """Where each line starts."""
        ends = [found.end() for found in _LINE_BREAK.finditer(self._text)]
        return [0, *(end for end in ends if end < len(self._text))]

    def _parse(self, data: bytes, size_max: int, *, has_block_comments: bool) -> yaml.Node | None:
        if len(data) > size_max:
            size = f"{size_max >> 10} KiB"
            self.note(1, 1, "", f"the file is larger than {size}", f"at most {size}")
            return None
        try:
            self._text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = len(_LINE_BREAK.findall(data[: error.start].decode("utf-8", "replace"))) + 1
            found = f"byte {error.start} is {data[error.start]:#04x}"
            self.note(line, 1, "", f"the file is not text in UTF-8: {found}", "UTF-8")
            return None
        loader = None
        try:
            loader = _Loader(self._text)
            loader.has_block_comments = has_block_comments
            return loader.get_single_node() or yaml.ScalarNode(f"{TAG}null", "")
        except yaml.MarkedYAMLError as error:
            self._note_syntax(error)
        except yaml.reader.ReaderError as error:
            line, column = self.place(yaml.Mark("", error.position, 0, 0, None, 0))
            found = f"U+{error.character:04X}"
            message = f"invalid YAML: the character {found} is not allowed"
            self.note(line, column, "", message, "printable characters")
        except (ValueError, OverflowError):  # of an escape such as \U00110000, or a version
            line, column = self.place(loader.get_mark() if loader else None)
            message = "invalid YAML: a character or a number is out of range"
            self.note(line, column, "", message, "valid YAML")
        finally:
            if loader is not None:
                loader.dispose()
        return None

    def _note_syntax(self, error: yaml.MarkedYAMLError) -> None:
        line, column = self.place(error.problem_mark or error.context_mark)
        if isinstance(error, _TooDeepError):
            message = f"it is nested more than {DEPTH_MAX} levels deep"
            self.note(line, column, "", message, f"at most {DEPTH_MAX} levels")
            return
        why = ", ".join(filter(None, (error.context, error.problem)))
        if why.endswith("'?'"):  # PyYAML takes it for the mark of a key
            why += "; put a string with a '?' in quotes"
        self.note(line, column, "", f"invalid YAML: {why}", "valid YAML")


class _TooDeepError(yaml.MarkedYAMLError):
    """The document is nested too deeply."""


class _Loader(Scanner):
    """Composes nodes. PyYAML recurses for each level, so their number is limited."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth == DEPTH_MAX:
            event = self.peek_event()  # type: ignore[no-untyped-call] # PyYAML's own
            raise _TooDeepError(problem_mark=event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1
