"""Lines that are chained by digests: a change of one line breaks the chain there.

Each line is a JSON object whose last member is ``sha256``: the digest of the line before it and of
the line's own text up to that member. The first line uses the file's path instead of a line before
it, so that a file in another file's place is detected, too. There is no secret in it: anyone who
can write the file can also compute a new chain. It detects accidents and careless edits; with a
copy of the last digest elsewhere, it detects every change.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

_MEMBER = b',"sha256":"'
_END = b'"}'
DIGEST = 64
"""The length of a digest, in bytes."""
DIGEST_FROM_END = DIGEST + len(_END) + 1
"""Where the digest of a line begins, in bytes before its end, the newline included."""
_TAIL = len(_MEMBER) + DIGEST + len(_END)


def first_digest(path: str) -> bytes:
    """The digest that the first line of the file at *path* is chained to."""
    return hashlib.sha256(f"core-infra journal {path}".encode()).hexdigest().encode()


def chained_line(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Chain a record to the line before it.

    Args:
        head: the digest of the line before.
        body: a JSON object, without its closing brace.

    Returns:
        The whole line and its digest.
    """
    digest = hashlib.sha256(head + body).hexdigest().encode()
    return b"".join((body, _MEMBER, digest, _END, b"\n")), digest


def body_of(line: bytes) -> bytes:
    """The record of a whole line, as :func:`chained_line` was given it."""
    return line[: -_TAIL - 1]


class ChainBreak(NamedTuple):
    """A line at which the chain does not hold.

    Attributes:
        line: its number, from 1.
        offset: where it begins, in bytes.
        torn: a write was interrupted here: the line has no end, or blocks that never reached the
            disk. Otherwise the line was changed, or lines before it were changed or removed.
    """

    line: int
    offset: int
    torn: bool


class ChainCheck(NamedTuple):
    """The result of checking a chain.

    Attributes:
        head: the digest that the next line is chained to.
        lines: the number of whole lines.
        end: where they end, in bytes. What comes after is torn.
        breaks: the lines at which the chain does not hold.
    """

    head: bytes
    lines: int
    end: int
    breaks: list[ChainBreak]


def check_chain(data: bytes, head: bytes, *, lines: int = 0, offset: int = 0) -> ChainCheck:
    """Check a chain.

    Args:
        data: lines, as they are in the file.
        head: the digest that the first of them is chained to.
        lines: the number of lines before them.
        offset: the number of bytes before them.
    """
    breaks: list[ChainBreak] = []
    start = 0
    sha256, find = hashlib.sha256, data.find
    while (stop := find(b"\n", start)) >= 0:
        cut = stop - _TAIL
        stated = data[stop - DIGEST - 2 : stop - 2]
        lines += 1
        whole = sha256(head + data[start:cut]).hexdigest().encode() == stated
        if not whole or data[cut : cut + len(_MEMBER)] != _MEMBER:
            # A block that was never written reads as zeros, and so may everything after it.
            torn = b"\0" in data[start:stop]
            breaks.append(ChainBreak(lines, offset + start, torn))
            if torn:
                return ChainCheck(head, lines - 1, offset + start, breaks)
        head = stated
        start = stop + 1
    if start < len(data):
        breaks.append(ChainBreak(lines + 1, offset + start, torn=True))
    return ChainCheck(head, lines, offset + start, breaks)
