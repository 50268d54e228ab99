"""The options of a program: what to run and how, its environment, and checks of the values."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, NamedTuple, TypeAlias

from core_infra._unpatched import os, signal
from core_infra.errors import InvalidError
from core_infra.process._restart import RestartPolicy
from core_infra.process._values import is_number, is_path, is_signal, is_size, is_whole

Input: TypeAlias = str | bytes | int | None
"""A program's standard input: text or bytes and then the end, a descriptor, or a pipe of ours."""
USUAL_SIZE = (24, 80)
"""Rows and columns of a terminal."""


class Environment(NamedTuple):
    r"""Environment variables, encoded for the reaper.

    Attributes:
        number: how many.
        block: ``NAME=value\0`` for each.
    """

    number: int
    block: bytes


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """A program to run, and how.

    Attributes:
        command: the program: a path, or a name that is looked up on the PATH that it will have.
        args: its arguments.
        dir: its working directory; None is that of this process.
        env: variables that are added to the inherited environment; the value None removes one.
        clean_env: nothing is inherited: *env* is its whole environment.
        stdin: its standard input: text or bytes, then the end; or an open file or descriptor. None
            is a pipe for :meth:`Process.send_input`, and an empty input for ``Service.run``.
        merge: stdout and stderr share one pipe: in their true order, but not distinguishable.
        disable_capture: keep no output; its lines are still published on the bus.
        log: both its outputs are appended to this file instead; they are not captured or published.
        buffer_size: how many of the last bytes of output are kept; None is the service's choice.
        pty: it runs on a terminal of its own, see :attr:`Process.terminal`.
        pty_size: rows and columns of that terminal.
        timeout: seconds after which it is stopped, as by :meth:`Process.stop`.
        stop_signal: the signal that stops it, sent to its process group.
        grace_period: seconds between that signal and SIGKILL; fewer if it, and what it started in
            its process group, ends before.
        linger: seconds after its end for which its output is still read, as long as something
            that it started has the other ends of its pipes. None is 1 for
            ``Service.run``, which returns all that is written until then, and 0 for
            ``Service.start``.
        detach: it outlives this process. Its output is not captured: it goes to *log* or nowhere.
        restart: when it is started again after it has ended; None: never.
        pass_fds: descriptors that it inherits, with the same numbers.
    """

    command: str | os.PathLike[str]
    args: Sequence[str | os.PathLike[str]] = ()
    dir: str | os.PathLike[str] | None = None
    env: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    clean_env: bool = False
    stdin: str | bytes | IO[Any] | int | None = None
    merge: bool = False
    disable_capture: bool = False
    log: str | os.PathLike[str] | None = None
    buffer_size: int | None = None
    pty: bool = False
    timeout: float | None = None
    grace_period: float = 1.0
    detach: bool = False
    restart: RestartPolicy | None = None
    pass_fds: Sequence[int] = ()
    pty_size: tuple[int, int] = USUAL_SIZE
    stop_signal: int = signal.SIGTERM
    linger: float | None = None

    def argv(self) -> list[str]:
        """The command and its arguments."""
        return [os.fspath(part) for part in (self.command, *self.args)]

    def input(self) -> Input:
        """Its standard input; an open file as its descriptor.

        Raises:
            InvalidError: it is of another type.
        """
        stdin = self.stdin
        if stdin is None or isinstance(stdin, (str, bytes)):
            return stdin
        if isinstance(stdin, int) and _is_fd(stdin):
            return stdin
        try:
            return int(stdin.fileno())  # type: ignore[union-attr] # a wrong number has none
        except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is the latter two
            raise InvalidError(
                f"{os.fspath(self.command)!r} cannot read from {stdin!r}",
                why="it must be text, bytes, a descriptor, or an open file that has one",
                todo="Of a file object without a descriptor, give the contents: stdin=file.read().",
            ) from None

    def directory(self) -> str:
        """Its absolute working directory, also if that of this process has been removed."""
        if self.dir and os.path.isabs(self.dir):
            return os.fspath(self.dir)
        try:
            here = os.getcwd()
        except FileNotFoundError:
            here = f"/proc/{os.getpid()}/cwd"
        return os.path.join(here, self.dir) if self.dir else here

    def environment(self) -> Environment:
        """The whole environment that the program gets."""
        return _exactly(self.env) if self.clean_env else _inherited(self.env)

    def check(self) -> None:
        """Raise InvalidError if a value is not possible; the error lists all that are wrong."""
        wrong = _find_wrong(self)
        if wrong:
            raise InvalidError(f"cannot run {self.command!r} like this", why="; ".join(wrong))


_MAX_FDS = 248
"""The kernel's limit for one message (253), less the program's streams and the request's own."""


@dataclasses.dataclass(frozen=True)
class ServiceOptions:
    """Options of all processes of a service.

    Attributes:
        buffer_size: bytes of output that are kept of each process, unless its own options say
            otherwise; None: 1 MiB of those that are started, and all of those that are run.

    Raises:
        InvalidError: the size is not a number above 0.
    """

    buffer_size: int | None = None

    def __post_init__(self) -> None:
        if self.buffer_size is not None and not (
            is_whole(self.buffer_size) and self.buffer_size >= 1
        ):
            raise InvalidError(
                f"buffer_size is {self.buffer_size!r}",
                why="it must be a whole number of bytes, at least 1",
            )


def check_service_options(options: Any) -> None:
    """Raise InvalidError unless *options* are options of a service, or None."""
    if options is not None and not isinstance(options, ServiceOptions):
        raise InvalidError(f"options is {options!r}", why="it must be ServiceOptions")


def _find_wrong(options: RunOptions) -> list[str]:
    """A phrase for each wrong value."""
    # Each start checks everything: what has its default must take no time.
    wrong = _wrong_words(options.command, options.args)
    if options.env:
        wrong += _wrong_variables(options.env)
    if options.dir is not None or options.log is not None:
        wrong += _wrong_path("dir", options.dir) + _wrong_path("log", options.log)
    if isinstance(options.stdin, str) and not _can_encode(options.stdin, "utf-8", "strict"):
        wrong.append("stdin has characters that UTF-8 cannot encode: give bytes")
    if options.pass_fds != ():
        wrong += _wrong_descriptors(options.pass_fds)
    return wrong + _wrong_times(options) + _wrong_numbers(options) + _wrong_together(options)


def _wrong_words(command: Any, args: Any) -> list[str]:
    wrong = [] if command else ["the command is empty"]
    if isinstance(args, (str, bytes)):
        return [*wrong, f"args is one string, {args!r}: give a list"]
    if not isinstance(args, (tuple, list, Sequence)):  # Sequence alone takes ten times as long
        return [*wrong, f"args is {args!r}: give a list"]
    words = (command, *args)
    others = [
        f"{word!r} is not a string"
        for word in words
        if not isinstance(word, str) and not is_path(word)
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
    if not isinstance(path, str) and not is_path(path):
        return [f"{name} is {path!r}: give a path"]
    why = _wrong_text(os.fspath(path))
    return [f"{why} in {name}, {os.fspath(path)!r}"] if why else []


def _wrong_descriptors(fds: Any) -> list[str]:
    if isinstance(fds, str | bytes) or not isinstance(fds, Sequence):
        return [f"pass_fds is {fds!r}: give a list"]
    wrong = [f"{fd!r} is not a descriptor" for fd in fds if not _is_fd(fd)]
    if len(fds) > _MAX_FDS:
        wrong.append(f"pass_fds has {len(fds)} descriptors, more than {_MAX_FDS}")
    return wrong


def _wrong_times(options: RunOptions) -> list[str]:
    wrong = []
    if options.timeout is not None and not _exceeds(options.timeout, 0):
        wrong.append(f"timeout is {options.timeout!r}, not above 0")
    grace: Any = options.grace_period
    if not is_number(grace) or grace < 0:
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
    if size is not None and not (is_whole(size) and size >= 1):
        wrong.append(f"buffer_size is {size!r}: give a whole number, at least 1")
    if options.stop_signal is not signal.SIGTERM and not is_signal(options.stop_signal):
        wrong.append(f"stop_signal is {options.stop_signal!r}, which is not a signal")
    if options.pty_size is not USUAL_SIZE and not is_size(options.pty_size):
        wrong.append(f"pty_size is {options.pty_size!r}: give rows and columns")
    return wrong


def _wrong_together(options: RunOptions) -> list[str]:
    wrong = []
    if options.pty and options.stdin is not None:
        wrong.append("a program on a pty reads from the pty: use send_input(), not stdin")
    if options.pty and options.log is not None:
        wrong.append("the output of a pty cannot go to a log")
    if options.detach:
        if options.pty:
            wrong.append("a pty does not outlive this process, so its program cannot be detached")
        if isinstance(options.stdin, str | bytes):
            wrong.append("this process, which writes stdin, may end before a detached program")
        if options.restart is not None:
            wrong.append("a detached program cannot be restarted")
    return wrong


def _wrong_text(text: str) -> str:
    """Why the system does not accept a text; empty if it does."""
    if "\0" in text:
        return "a NUL character is"
    encoding = sys.getfilesystemencoding()
    if _can_encode(text, encoding, sys.getfilesystemencodeerrors()):
        return ""
    return f"characters that {encoding} cannot encode are"


def _can_encode(text: str, encoding: str, errors: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode(encoding, errors)
    except UnicodeEncodeError:
        return False
    return True


def _is_fd(value: Any) -> bool:
    return is_whole(value) and 0 <= value < 1 << 31


def _exceeds(value: Any, number: int) -> bool:
    return is_number(value) and bool(value > number)


def _exactly(variables: Mapping[str, str | None]) -> Environment:
    """Encode an environment of *variables* only; those that are None are left out."""
    return _encode(
        (os.fsencode(name), os.fsencode(value))
        for name, value in variables.items()
        if value is not None
    )


def _inherited(changes: Mapping[str, str | None]) -> Environment:
    """Encode our environment as it is now, with *changes*; those that are None are removed."""
    return _exactly({**os.environ, **changes}) if changes else _unchanged()


_last: tuple[dict[bytes, bytes], Environment] = ({}, Environment(0, b""))


def _unchanged() -> Environment:
    """Our environment, encoded again only if it has changed.

    Decoding and encoding each variable takes a tenth of the time of starting a program. os.environ
    keeps the encoded variables, and comparing these is quick; without them, all is encoded again.
    """
    global _last  # noqa: PLW0603 - a cache between calls
    data = getattr(os.environ, "_data", None)
    known, found = _last
    if data is None or data != known:
        known = dict(os.environb)
        found = _encode(known.items())
        _last = (known, found)
    return found


def _encode(variables: Iterable[tuple[bytes, bytes]]) -> Environment:
    strings = [b"%b=%b\0" % variable for variable in variables]
    return Environment(len(strings), b"".join(strings))
