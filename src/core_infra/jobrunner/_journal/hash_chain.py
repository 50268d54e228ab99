"""Lines that are chained by digests: a change of one breaks the chain at that line.

Each line is a JSON object whose last member is ``sha256``: the digest of the line before it and of
the line's own text up to that member. The first line takes the file's path for the line before it,
so that a file that is put in another's place is found, too. There is no secret in it: who can
write the file can also make the chain anew. It tells an accident or a hurried edit, and whoever
keeps a copy of the last digest elsewhere can tell everything.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

_MEMBER = b',"sha256":"'
_END = b'"}'
DIGEST = 64
"""How long a digest is, in bytes."""
DIGEST_FROM_END = DIGEST + len(_END) + 1
"""How many bytes before the end of a line, the newline included, its digest begins."""
_TAIL = len(_MEMBER) + DIGEST + len(_END)


def genesis(path: str) -> bytes:
    """What the first line of the file at *path* is chained to."""
    return hashlib.sha256(f"core-infra journal {path}".encode()).hexdigest().encode()


def seal(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Chain a record.

    Args:
        head: the digest of the line before.
        body: a JSON object, without its closing brace.

    Returns:
        The whole line and its digest.
    """
    digest = hashlib.sha256(head + body).hexdigest().encode()
    return b"".join((body, _MEMBER, digest, _END, b"\n")), digest


class Break(NamedTuple):
    """A line at which the chain does not hold.

    Attributes:
        line: its number, from 1.
        offset: where it begins, in bytes.
        torn: a write was interrupted here: the line has no end, or blocks that never reached the
            disk. Otherwise somebody changed it, or took lines away before it.
    """

    line: int
    offset: int
    torn: bool


class Followed(NamedTuple):
    """What is known of some lines after following their chain.

    Attributes:
        head: the digest that the next line is chained to.
        lines: how many whole lines there are.
        end: where they end, in bytes. What comes after is torn.
        breaks: where the chain does not hold.
    """

    head: bytes
    lines: int
    end: int
    breaks: list[Break]


def follow(data: bytes, head: bytes, *, lines: int = 0, offset: int = 0) -> Followed:
    """Check a chain.

    Args:
        data: lines, as they are in the file.
        head: what the first of them is chained to.
        lines: how many lines are before them.
        offset: how many bytes are before them.
    """
    breaks: list[Break] = []
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
            breaks.append(Break(lines, offset + start, torn))
            if torn:
                return Followed(head, lines - 1, offset + start, breaks)
        head = stated
        start = stop + 1
    if start < len(data):
        breaks.append(Break(lines + 1, offset + start, torn=True))
    return Followed(head, lines, offset + start, breaks)
