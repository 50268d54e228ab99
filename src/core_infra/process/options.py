"""How a program is to be run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import IO, Any, TypeAlias

from core_infra.errors import InvalidError
from core_infra.process.environment import Environment, given, inherited
from core_infra.process.restart import RestartPolicy

Input: TypeAlias = str | bytes | int | None
"""What a program reads: text or bytes and then the end, a descriptor, or what we send it."""

_WORD = (str, os.PathLike)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """A program to run, and how.

    Attributes:
        command: the program: a path, or a name that is looked up on the PATH that it will have.
        args: its arguments.
        dir: its working directory; None is ours.
        env: added to the environment that it inherits.
        clean_env: it inherits nothing: *env* is its whole environment.
        stdin: what it reads: text or bytes, then the end; or an open file or descriptor. None is
            a pipe for :meth:`Process.send_input`; ``Service.run`` gives nothing to read instead.
        merge: stdout and stderr share one pipe: their true order, without telling them apart.
        disable_capture: keep no output; its lines still go to the bus.
        log: both its outputs are appended to this file instead, past us and the bus.
        buffer_size: how many of the last bytes of output are kept; None is the service's choice.
        pty: it runs on a terminal of its own; :attr:`Process.terminal` types and reads on it.
        timeout: seconds after which it is stopped as by :meth:`Process.stop`.
        grace_period: seconds between asking it to end (SIGTERM) and ending it (SIGKILL).
        detach: it outlives this process. Its output is not captured: it goes to *log* or nowhere.
        restart: when it is started again after it has ended; None is never.
        pass_fds: descriptors that it inherits under their numbers.
    """

    command: str | os.PathLike[str]
    args: Sequence[str | os.PathLike[str]] = ()
    dir: str | os.PathLike[str] | None = None
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
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

    def argv(self) -> list[str]:
        """The command and its arguments."""
        return [os.fspath(part) for part in (self.command, *self.args)]

    def input(self) -> Input:
        """What it reads; an open file by its descriptor.

        Raises:
            InvalidError: that is not possible.
        """
        stdin = self.stdin
        if stdin is None or isinstance(stdin, str | bytes | int):
            return stdin
        try:
            return int(stdin.fileno())
        except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is the latter two
            raise InvalidError(
                f"{os.fspath(self.command)!r} cannot read from {stdin!r}",
                why="that is neither text, nor bytes, nor an open file of the system",
                todo="Of what only Python knows, give the contents: stdin=file.read().",
            ) from None

    def directory(self) -> str:
        """Its working directory, absolute: also when ours has been removed."""
        if self.dir and os.path.isabs(self.dir):  # noqa: PTH117 - a string may be a path, too
            return os.fspath(self.dir)
        try:
            here = os.getcwd()  # noqa: PTH109 - a Path takes ten times as long, at each start
        except FileNotFoundError:
            here = f"/proc/{os.getpid()}/cwd"
        return os.path.join(here, self.dir) if self.dir else here  # noqa: PTH118

    def environment(self) -> Environment:
        """The whole environment that the program gets."""
        return given(self.env) if self.clean_env else inherited(self.env)

    def check(self) -> None:
        """Raise InvalidError for what cannot be asked for; names all that is wrong."""
        wrong = [*self._wrong_values(), *self._wrong_together()]
        if wrong:
            raise InvalidError(f"cannot run {self.command!r} like this", why="; ".join(wrong))

    def _wrong_values(self) -> list[str]:
        wrong = self._wrong_words()
        if self.env:
            wrong += _wrong_variables(self.env)
        paths: tuple[tuple[str, Any], ...] = (("dir", self.dir), ("log", self.log))
        wrong += [
            f"{name} is {path!r}: give a path"
            for name, path in paths
            if path is not None and not isinstance(path, _WORD)
        ]
        restart: Any = self.restart
        if restart is not None and not isinstance(restart, RestartPolicy):
            wrong.append(f"restart is {self.restart!r}: give a RestartPolicy")
        if self.pass_fds:
            wrong += [f"{fd!r} is no descriptor" for fd in self.pass_fds if not _is_fd(fd)]
        if self.timeout is not None and not _exceeds(self.timeout, 0):
            wrong.append(f"timeout is {self.timeout!r}, not above 0")
        if self.grace_period != 0 and not _exceeds(self.grace_period, 0):
            wrong.append(f"grace_period is {self.grace_period!r}, below 0")
        size: Any = self.buffer_size
        if size is not None and not (isinstance(size, int) and size >= 1):
            wrong.append(f"buffer_size is {size!r}: give a whole number, at least 1")
        return wrong

    def _wrong_words(self) -> list[str]:
        wrong = [] if self.command else ["the command is empty"]
        if isinstance(self.args, str | bytes):
            return [*wrong, f"args is one string, {self.args!r}: give a list"]
        if not isinstance(self.args, Sequence):
            return [*wrong, f"args is {self.args!r}: give a list"]
        words: tuple[Any, ...] = (self.command, *self.args)
        others = [f"{word!r} is no string" for word in words if not isinstance(word, _WORD)]
        if not others and "\0" in "".join(self.argv()):
            wrong.append("a NUL character is in the command")
        return wrong + others

    def _wrong_together(self) -> list[str]:
        wrong = []
        if self.pty and self.stdin is not None:
            wrong.append("a program on a pty reads from the pty: send_input it there, not stdin")
        if self.log is not None and self.pty:
            wrong.append("the output of a pty cannot go to a log")
        if self.detach and self.pty:
            wrong.append("a pty does not outlive us, so nobody can be detached on it")
        if self.detach and isinstance(self.stdin, str | bytes):
            wrong.append("who feeds stdin may end before a detached program")
        if self.detach and self.restart is not None:
            wrong.append("nobody restarts a detached program")
        return wrong


def _wrong_variables(variables: Mapping[Any, Any]) -> list[str]:
    if not isinstance(variables, Mapping):
        return [f"env is {variables!r}: give a dict"]
    wrong = []
    for name, value in variables.items():
        texts = isinstance(name, str) and isinstance(value, str)
        if not texts or not name or "=" in name or "\0" in name or "\0" in value:
            wrong.append(f"no environment can have {name!r}={value!r}")
    return wrong


def _is_fd(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 31


def _exceeds(value: Any, number: int) -> bool:
    return isinstance(value, int | float) and value > number
