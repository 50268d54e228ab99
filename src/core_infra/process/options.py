"""How a program is to be run."""

from __future__ import annotations

import dataclasses
import os
from typing import IO, TYPE_CHECKING, Any

from core_infra.errors import InvalidError
from core_infra.process.environment import Environment, given, inherited

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core_infra.process.restart import RestartPolicy


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
        buffer_size: how many of the last bytes of output are kept; None is the service's.
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

    def environment(self) -> Environment:
        """The whole environment that the program gets."""
        return given(self.env) if self.clean_env else inherited(self.env)

    def check(self) -> None:
        """Raise InvalidError for what cannot be asked for; names all that is wrong."""
        wrong = [*self._wrong_values(), *self._wrong_together()]
        if wrong:
            raise InvalidError(
                f"cannot run {os.fspath(self.command)!r} like this", why="; ".join(wrong)
            )

    def _wrong_values(self) -> list[str]:
        wrong = []
        if not os.fspath(self.command):
            wrong.append("the command is empty")
        if isinstance(self.args, str | bytes):
            wrong.append(f"args is one string, {self.args!r}: give a list")
        elif "".join(self.argv()).find("\0") >= 0:
            wrong.append("a NUL character is in the command")
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name or "\0" in value:
                wrong.append(f"no environment can have {name!r}={value!r}")
        if self.timeout is not None and not self.timeout > 0:
            wrong.append(f"timeout is {self.timeout!r}, not above 0")
        if not self.grace_period >= 0:
            wrong.append(f"grace_period is {self.grace_period!r}, below 0")
        if self.buffer_size is not None and self.buffer_size < 1:
            wrong.append(f"buffer_size is {self.buffer_size!r}, below 1")
        return wrong

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
