"""A program with a fork server that does as it is told: what a fork does to threads and files."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from core_infra.vm._hypervisors.fork_server import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAM = Path(__file__).with_name("forkable_program.py")


class Forkable:
    """A process that runs PROGRAM, or a clone of one."""

    def __init__(self, pid: int, fd: int, commands: socket.socket, server: ForkServer) -> None:
        self.pid = pid
        self.fd = fd
        self.server = server
        self._commands = commands
        commands.settimeout(20)
        self._answers = commands.makefile("rb")

    @classmethod
    def start(cls, fds: Iterable[int] = (), **popen_options: Any) -> Self:
        server = ForkServer()
        ours, theirs = socket.socketpair()
        with theirs:
            popen = subprocess.Popen(
                server.command([sys.executable, str(PROGRAM), str(theirs.fileno())]),
                pass_fds=[theirs.fileno(), *server.fds(), *fds],
                start_new_session=True,
                **popen_options,
            )
            popen.returncode = 0  # ours to wait for
            started = cls(popen.pid, theirs.fileno(), ours, server)
        server.inherited()
        started.ask("0")  # it runs
        return started

    def fork(self, more: dict[int, int] | None = None, **options: Any) -> Self:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.enter_context(ours)
            pid, server = self.server.fork({self.fd: theirs.fileno(), **(more or {})}, **options)
            undo.pop_all()
        return type(self)(pid, self.fd, ours, server)

    def ask(self, expression: str) -> str:
        """The value of an expression there, as Python writes it; or None of statements."""
        self._commands.sendall(expression.encode() + b"\n")
        return self._answers.readline().decode().rstrip("\n")

    def threads(self) -> dict[int, str]:
        """The names of its threads, by thread id, as the kernel knows them."""
        found = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[int(task.name)] = (task / "comm").read_text().strip()
        return found

    def descriptors(self) -> dict[int, str]:
        return {int(fd.name): str(fd.readlink()) for fd in Path(f"/proc/{self.pid}/fd").iterdir()}

    def close(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        self._answers.close()
        self._commands.close()
        self.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_here() -> int:
    """How many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
