"""Scans YAML that PyYAML refuses, though other readers and people take it for YAML."""

from __future__ import annotations

import yaml

_BREAKS = "\r\n\x85\u2028\u2029"
_ENDS = f"\0{_BREAKS}"


class Scanner(yaml.SafeLoader):
    """PyYAML's loader, which also takes tabs between tokens.

    YAML allows them wherever they do not indent a line (section 6.2); PyYAML takes only spaces.

    Attributes:
        has_block_comments: within a block of text (``|``, ``>``), take lines that begin with ``#``
            and are not indented as the text is for comments. In YAML such a line ends the text, so
            the text after it is a mistake. ``#!`` begins no comment: it is a program's first line.
    """

    has_block_comments = False

    def scan_to_next_token(self) -> None:
        """Skip what stands between tokens."""
        super().scan_to_next_token()
        while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
            self.forward()
            super().scan_to_next_token()

    def scan_plain_spaces(self, indent: int, start_mark: yaml.Mark) -> list[str] | None:
        """Return the white space within a scalar without quotes."""
        length = 0
        while self.peek(length) in (" ", "\t"):
            length += 1
        space = self.prefix(length)
        if "\t" in space:
            self.forward(length)
            if self.peek() not in _ENDS:
                return [space]
        return super().scan_plain_spaces(indent, start_mark)

    def scan_block_scalar_indentation(self) -> tuple[list[str], int, yaml.Mark]:
        """Return the empty lines that a block of text begins with, and its indentation."""
        found = []
        while True:
            lines, indent, mark = super().scan_block_scalar_indentation()
            found += lines
            if not self._skip_comment(max(self.indent + 1, 1)):
                return found, indent, mark

    def scan_block_scalar_breaks(self, indent: int) -> tuple[list[str], yaml.Mark]:
        """Return the empty lines before the next line of a block of text."""
        found = []
        while True:
            lines, mark = super().scan_block_scalar_breaks(indent)
            found += lines
            if not self._skip_comment(indent):
                return found, mark

    def _skip_comment(self, indent: int) -> bool:
        """Skip a line of a comment, if a line of the text follows; return whether there was one."""
        column, at, end = self.column, 0, 0
        while (
            self.has_block_comments
            and column < indent
            and self.peek(at) == "#"
            and self.peek(at + 1) != "!"
        ):
            while self.peek(at) not in _ENDS:
                at += 1
            end = end or at + (self.peek(at) != "\0")
            column = 0
            while self.peek(at) in (" ", *_BREAKS):
                column = column + 1 if self.peek(at) == " " else 0
                at += 1
        if not end or column < indent or self.peek(at) == "\0":
            return False
        if self.prefix(end).endswith("\r") and self.peek(end) == "\n":
            end += 1
        self.forward(end)
        return True
