"""How a program is to be run."""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from core_infra.errors import InvalidError
from core_infra.process.environment import Environment, given, inherited
from core_infra.process.option_checks import USUAL_SIZE, what_is_wrong

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core_infra.process.restart import RestartPolicy

Input: TypeAlias = str | bytes | int | None
"""What a program reads: text or bytes and then the end, a descriptor, or what we send it."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """A program to run, and how.

    Attributes:
        command: the program: a path, or a name that is looked up on the PATH that it will have.
        args: its arguments.
        dir: its working directory; None is ours.
        env: added to the environment that it inherits; None in the place of a value takes the
            variable away.
        clean_env: it inherits nothing: *env* is its whole environment.
        stdin: what it reads: text or bytes, then the end; or an open file or descriptor. None is
            a pipe for :meth:`Process.send_input`; ``Service.run`` gives nothing to read instead.
        merge: stdout and stderr share one pipe: their true order, without telling them apart.
        disable_capture: keep no output; its lines still go to the bus.
        log: both its outputs are appended to this file instead, past us and the bus.
        buffer_size: how many of the last bytes of output are kept; None is the service's choice.
        pty: it runs on a terminal of its own; :attr:`Process.terminal` types and reads on it.
        pty_size: rows and columns of that terminal.
        timeout: seconds after which it is stopped as by :meth:`Process.stop`.
        stop_signal: asks it to end, and its process group.
        grace_period: seconds between asking it to end and ending it (SIGKILL); fewer if it, and
            what it started in its process group, ends before.
        linger: seconds after its end for which its output is still waited for, as long as
            something that it started has the other ends of its pipes. None is 1 for
            ``Service.run``, which returns all that is written until then, and 0 for
            ``Service.start``.
        detach: it outlives this process. Its output is not captured: it goes to *log* or nowhere.
        restart: when it is started again after it has ended; None is never.
        pass_fds: descriptors that it inherits under their numbers.
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
        wrong = what_is_wrong(self)
        if wrong:
            raise InvalidError(f"cannot run {self.command!r} like this", why="; ".join(wrong))
