"""Lines out of pieces of bytes."""

from __future__ import annotations

from typing import NamedTuple

MAX_LINE = 4 << 20
"""Bytes of a line that are put together; a longer one comes in parts."""

_CONTINUES = 0b1100_0000  # the top bits of a UTF-8 byte that does not begin a character: 10
_WITHIN = 0b1000_0000


class Part(NamedTuple):
    """A line, or a part of a long one that goes on in the next."""

    text: str
    partial: bool


class LineSplitter:
    r"""Splits one stream into lines, without their ends (``\n`` or ``\r\n``).

    What is no UTF-8 becomes U+FFFD. No more than *max_line* bytes are held back for a line's end.

    Args:
        max_line: bytes after which the beginning of a line is handed out.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max = max_line
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[str]:
        """The whole lines that end in *data*, which has gone through :meth:`overflow`."""
        end = data.rfind(b"\n")
        if end < 0:
            self._hold(data)
            return []
        head = data[:end]
        if self._held:
            head = b"".join((*self._held, head))
            self._held.clear()
            self._size = 0
        if end + 1 < len(data):
            self._hold(data[end + 1 :])
        text = head.decode(errors="replace")
        lines = text.split("\n")
        if "\r" in text:
            return [line.removesuffix("\r") for line in lines]
        return lines

    def overflow(self, data: bytes) -> tuple[list[Part], bytes]:
        """Hand out parts of the line that becomes too long with *data*; and what is left to feed.

        Args:
            data: no longer than *max_line*, so that no other line in it can be too long.
        """
        end = data.find(b"\n")
        length = len(data) if end < 0 else end
        if self._size + length <= self._max:
            return [], data
        line = b"".join((*self._held, data[:length]))
        self._held.clear()
        self._size = 0
        parts = []
        while len(line) > self._max:
            at = self._max
            while at > self._max - 3 and line[at] & _CONTINUES == _WITHIN:
                at -= 1  # not within a character
            parts.append(Part(line[:at].decode(errors="replace"), partial=True))
            line = line[at:]
        return parts, line + data[length:]

    def rest(self) -> str | None:
        """What came after the last line's end, once nothing more will come; None if nothing did."""
        held, self._held, self._size = b"".join(self._held), [], 0
        return held.decode(errors="replace").removesuffix("\r") if held else None

    def peek(self) -> str:
        """What has come of a line that has not ended."""
        return b"".join(self._held).decode(errors="replace")

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
