"""The interface of ``pexpect.spawn`` for a terminal or a console that another thread reads."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, NoReturn

from pexpect.exceptions import EOF, TIMEOUT
from pexpect.spawnbase import SpawnBase

from core_infra.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable

    _Spawn = SpawnBase[str]
else:
    _Spawn = SpawnBase  # generic only in its type stubs

_KEYS = {"@": 0, "`": 0, "[": 27, "{": 27, "\\": 28, "|": 28, "]": 29, "}": 29, "^": 30, "~": 30}
_KEYS |= {"_": 31, "?": 127}


class PexpectAdapter(_Spawn):
    """``expect``, ``send``, ``sendline``, ``sendcontrol``, …; subclasses read and type.

    Args:
        name: what it is called in pexpect's messages.
        timeout: seconds that ``expect`` waits by default.
    """

    def __init__(self, name: str, *, timeout: float) -> None:
        super().__init__(timeout=timeout, maxread=1 << 16, encoding="utf-8", codec_errors="replace")
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self.name = name

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:
        """Read for pexpect; raises its TIMEOUT and EOF."""
        text = self._text.decode(self._read(size, self.timeout if timeout == -1 else timeout))
        self._log(text, "read")  # type: ignore[attr-defined] # missing in the stubs
        return text

    def send(self, text: str | bytes) -> int:
        """Type *text*; returns the number of bytes sent."""
        data = text if isinstance(text, bytes) else _encoded(text)
        shown = data.decode(errors="replace") if isinstance(text, bytes) else text
        self._log(shown, "send")  # type: ignore[attr-defined] # missing in the stubs
        self._type(data)
        return len(data)

    def write(self, text: str | bytes) -> None:
        """Type *text*."""
        self.send(text)

    def writelines(self, lines: Iterable[str | bytes]) -> None:
        """Type each, with nothing between them."""
        for line in lines:
            self.send(line)

    def sendline(self, text: str | bytes = "") -> int:
        """Type *text* and Enter."""
        return self.send(text + b"\n" if isinstance(text, bytes) else f"{text}\n")

    def sendcontrol(self, char: str) -> int:
        """Type a control character: ``sendcontrol("c")`` is Ctrl-C.

        Raises:
            InvalidError: there is no such key.
        """
        if len(char) == 1 and char.isascii() and char.isalpha():
            return self.send(chr(ord(char.upper()) & 0x1F))
        if char not in _KEYS:
            raise InvalidError(
                f"there is no control character {char!r}", why="a letter or @[\\]^_?"
            )
        return self.send(chr(_KEYS[char]))

    def _read(self, size: int, timeout: float | None) -> bytes:
        """At least one byte; raises TIMEOUT after *timeout* seconds, and EOF at the end."""
        raise NotImplementedError

    def _type(self, data: bytes) -> None:
        raise NotImplementedError

    def _at_end(self, why: str) -> NoReturn:
        self.flag_eof = True
        raise EOF(why)

    def _timed_out(self, why: str) -> NoReturn:
        raise TIMEOUT(why)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidError(f"cannot type {text!r}", why=str(error)) from None
