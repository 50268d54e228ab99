"""Whether a program can be run as somebody asks for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError
from core_infra.process.real import os, signal
from core_infra.process.restart import RestartPolicy

if TYPE_CHECKING:
    from core_infra.process.options import RunOptions

_SIGNALS = frozenset(signal.valid_signals())
USUAL_SIZE = (24, 80)
_MAX_SIZE = 0xFFFF
_MAX_FDS = 248
"""What the kernel takes in one message (253), without the program's streams and the wire's own."""


def what_is_wrong(options: RunOptions) -> list[str]:
    """A phrase for each; none if all is well."""
    # A start looks at all of it: what is as by default takes no time.
    wrong = _wrong_words(options.command, options.args)
    if options.env:
        wrong += _wrong_variables(options.env)
    if options.dir is not None or options.log is not None:
        wrong += _wrong_path("dir", options.dir) + _wrong_path("log", options.log)
    if isinstance(options.stdin, str) and not _can_encode(options.stdin, "utf-8", "strict"):
        wrong.append("stdin has characters that UTF-8 has no bytes for: give bytes")
    if options.pass_fds:
        wrong += [f"{fd!r} is no descriptor" for fd in options.pass_fds if not _is_fd(fd)]
        if len(options.pass_fds) > _MAX_FDS:
            wrong.append(f"pass_fds has {len(options.pass_fds)} descriptors, more than {_MAX_FDS}")
    return wrong + _wrong_times(options) + _wrong_numbers(options) + _wrong_together(options)


def is_signal(value: Any) -> bool:
    """Whether it is a signal's number."""
    return isinstance(value, int) and value in _SIGNALS


def check_signal(number: Any) -> None:
    """Raise InvalidError unless it is a signal's number."""
    if not is_signal(number):
        raise InvalidError(f"there is no signal {number!r}")


def is_size(value: Any) -> bool:
    """Whether it is a terminal's rows and columns."""
    return (
        isinstance(value, tuple | list)
        and len(value) == len(("rows", "columns"))
        and all(isinstance(number, int) and 1 <= number <= _MAX_SIZE for number in value)
    )


def _wrong_words(command: Any, args: Any) -> list[str]:
    wrong = [] if command else ["the command is empty"]
    if isinstance(args, str | bytes):
        return [*wrong, f"args is one string, {args!r}: give a list"]
    if not isinstance(args, Sequence):
        return [*wrong, f"args is {args!r}: give a list"]
    words = (command, *args)
    others = [
        f"{word!r} is no string"
        for word in words
        if not isinstance(word, str) and not _is_path(word)
    ]
    if others:
        return wrong + others
    text = "".join(map(os.fspath, words))
    if ("\0" in text or not text.isascii()) and (why := _wrong_text(text)):
        wrong.append(f"{why} in the command")
    return wrong


def _wrong_variables(variables: Any) -> list[str]:
    if not isinstance(variables, Mapping):
        return [f"env is {variables!r}: give a dict"]
    wrong = []
    for name, value in variables.items():
        texts = isinstance(name, str) and (value is None or isinstance(value, str))
        if not texts or not name or "=" in name or _wrong_text(name + (value or "")):
            wrong.append(f"no environment can have {name!r}={value!r}")
    return wrong


def _wrong_path(name: str, path: Any) -> list[str]:
    if path is None:
        return []
    if not isinstance(path, str) and not _is_path(path):
        return [f"{name} is {path!r}: give a path"]
    why = _wrong_text(os.fspath(path))
    return [f"{why} in {name}, {os.fspath(path)!r}"] if why else []


def _wrong_times(options: RunOptions) -> list[str]:
    wrong = []
    if options.timeout is not None and not _exceeds(options.timeout, 0):
        wrong.append(f"timeout is {options.timeout!r}, not above 0")
    grace: Any = options.grace_period
    if not isinstance(grace, int | float) or not grace >= 0:
        wrong.append(f"grace_period is {options.grace_period!r}, below 0")
    if options.linger is not None and options.linger != 0 and not _exceeds(options.linger, 0):
        wrong.append(f"linger is {options.linger!r}, below 0")
    restart: Any = options.restart
    if restart is not None and not isinstance(restart, RestartPolicy):
        wrong.append(f"restart is {restart!r}: give a RestartPolicy")
    return wrong


def _wrong_numbers(options: RunOptions) -> list[str]:
    wrong = []
    size: Any = options.buffer_size
    if size is not None and not (isinstance(size, int) and size >= 1):
        wrong.append(f"buffer_size is {size!r}: give a whole number, at least 1")
    if options.stop_signal is not signal.SIGTERM and not is_signal(options.stop_signal):
        wrong.append(f"stop_signal is {options.stop_signal!r}, which is no signal")
    if options.pty_size is not USUAL_SIZE and not is_size(options.pty_size):
        wrong.append(f"pty_size is {options.pty_size!r}: give rows and columns")
    return wrong


def _wrong_together(options: RunOptions) -> list[str]:
    wrong = []
    if options.pty and options.stdin is not None:
        wrong.append("a program on a pty reads from the pty: send_input it there, not stdin")
    if options.pty and options.log is not None:
        wrong.append("the output of a pty cannot go to a log")
    if options.detach:
        if options.pty:
            wrong.append("a pty does not outlive us, so nobody can be detached on it")
        if isinstance(options.stdin, str | bytes):
            wrong.append("who feeds stdin may end before a detached program")
        if options.restart is not None:
            wrong.append("nobody restarts a detached program")
    return wrong


def _wrong_text(text: str) -> str:
    """Why the system cannot be given a text; empty if it can."""
    if "\0" in text:
        return "a NUL character is"
    encoding = sys.getfilesystemencoding()
    if _can_encode(text, encoding, sys.getfilesystemencodeerrors()):
        return ""
    return f"characters that {encoding} has no bytes for are"


def _can_encode(text: str, encoding: str, errors: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode(encoding, errors)
    except UnicodeEncodeError:
        return False
    return True


def _is_path(value: Any) -> bool:
    return isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)


def _is_fd(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 31


def _exceeds(value: Any, number: int) -> bool:
    return isinstance(value, int | float) and value > number
