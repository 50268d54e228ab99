"""The warm helper: a process that holds stopped machines between runs, for runs to clone.

It is the parent of each template, and with that of all clones of it. A clone belongs to the run
that has asked for it: it ends when that run closes its end of the clone's control socket, which
the kernel does however the run ends. Templates end with the helper.
"""

from __future__ import annotations

import contextlib
import fcntl
import selectors
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from core_infra._unpatched import Path, os, select, shutil, signal, socket, time
from core_infra.errors import CoreInfraError
from core_infra.process._child import guarded
from core_infra.vm._hypervisors.fork_server import ForkServer
from core_infra.vm._run_directory import RunDirectory, write_record
from core_infra.vm._warm import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_TEMPLATES = 4
MOST_MEMORY = 1 << 30
"""Bytes that all templates may take together; the one that was used least recently goes first."""
_FORK_TIMEOUT = 5.0
_SPARE_FDS = 512  # above all that a run's command names


@dataclass
class Template:
    """A stopped machine.

    Attributes:
        directory: has its record, by which it is found if the helper was killed.
        pid: its process.
        handle: a pidfd of it.
        key: what it was made from; empty: a run is still preparing it.
        nonce: that of its agent's last session.
        fds: its own descriptors, by name.
        what: what it is, for users.
        used: when a run asked for it last.
        held: our ends of its connections, which it would notice to be closed.
        server: its fork server.
    """

    directory: Path
    pid: int
    handle: int
    key: str = ""
    nonce: str = ""
    fds: dict[str, int] | None = None
    what: str = ""
    created: float = 0.0
    used: float = 0.0
    held: Sequence[int] = ()
    server: ForkServer | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process has not ended."""
        return not select.select([self.handle], [], [], 0)[0]

    @property
    def memory(self) -> int:
        """Bytes that it takes of this host's memory."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
            return int(text.partition("\nPss:")[2].split()[0]) << 10
        return 0

    def end(self) -> None:
        """End it, and remove its files."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)
        select.select([self.handle], [], [])
        if self.server is not None:
            self.server.close()
        protocol.close_all([*self.held, self.handle])
        shutil.rmtree(self.directory, ignore_errors=True)


class Helper:
    """Serves the runs of this user.

    Args:
        listener: the socket that they connect to.
        path: its path.
        idle: seconds after the last run's end until the helper ends itself.
    """

    def __init__(self, listener: socket.socket, path: Path, idle: float) -> None:
        self._listener = listener
        self._path = path
        self._idle = idle
        self._run = RunDirectory()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._connections: dict[socket.socket, Template | None] = {}  # with what each prepares
        self._templates: dict[str, Template] = {}
        self._users: set[socket.socket] = set()  # the connections of runs
        self._last = time.monotonic()  # when one was needed last
        self._numbers = 0
        self._cooled = False
        self._answers: dict[str, Callable[..., dict[str, Any]]] = {
            "begin": self._begin,
            "deposit": self._deposit,
            "lease": self._lease,
            "discard": self._discard,
            "list": self._list,
            "cool": self._cool,
        }

    def serve(self) -> None:
        """Serve until no run has needed the helper for long enough."""
        while not self._cooled:
            left = None if self._users else max(self._last + self._idle - time.monotonic(), 0.0)
            for key, _ in self._selector.select(left):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._answer(key.fileobj)  # type: ignore[arg-type] # ours are sockets
            self._forget_dead()
            if not self._users and time.monotonic() >= self._last + self._idle:
                return

    def close(self) -> None:
        """End all templates, and remove all files."""
        with FileLock(self._path.parent / ".lock"), contextlib.suppress(OSError):
            self._path.unlink()
        pending = [template for template in self._connections.values() if template is not None]
        for template in (*self._templates.values(), *pending):
            template.end()
        self._run.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        if not protocol.is_ours(connection):
            connection.close()
            return
        self._connections[connection] = None
        self._selector.register(connection, selectors.EVENT_READ)

    def _answer(self, connection: socket.socket) -> None:
        fds: list[int] = []
        try:
            packet, fds = protocol.receive(connection)
            answer = self._answers[packet.pop("request")](connection, fds, **packet)
        except (CoreInfraError, OSError, KeyError, TypeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
            if not fds and isinstance(error, CoreInfraError | OSError):  # it has gone
                self._close(connection)
                return
        finally:
            protocol.close_all(fds)
        try:
            protocol.send(connection, answer)
        except OSError:
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        template = self._connections.pop(connection)
        if connection in self._users:
            self._users.remove(connection)
            self._last = time.monotonic()
        connection.close()
        if template is not None:  # nobody can complete it
            template.end()

    def _begin(
        self, connection: socket.socket, fds: list[int], *, argv: list[str], numbers: list[int]
    ) -> dict[str, Any]:
        """Start a process whose descriptors have the numbers that its command names.

        The last of *fds* is the file for its output.
        """
        if (former := self._connections[connection]) is not None:
            former.end()  # it could not be prepared
            self._connections[connection] = None
        self._numbers += 1
        directory = self._run.new_directory(f".template{self._numbers}")
        # First away from the numbers that are to be given.
        above = max([_SPARE_FDS, *numbers]) + 1
        spare = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
        try:
            command = guarded(argv)
            program = shutil.which(command[0]) or command[0]
            pid = os.posix_spawn(
                program,
                command,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    *(
                        (os.POSIX_SPAWN_DUP2, fd, number)
                        for fd, number in zip(spare, [*numbers, 1], strict=True)
                    ),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                setsigdef=[signal.SIGCHLD],
            )
        finally:
            protocol.close_all(spare)
        write_record(directory, pid, name=directory.name)
        self._connections[connection] = Template(directory, pid, os.pidfd_open(pid))
        return {"pid": pid}

    def _deposit(
        self,
        connection: socket.socket,
        fds: list[int],
        *,
        key: str,
        nonce: str,
        numbers: dict[str, int],
        what: str,
    ) -> dict[str, Any]:
        """Keep the template that this run has prepared."""
        template = self._connections[connection]
        if template is None or not fds:
            raise ValueError("no template is being prepared")
        template.key, template.nonce, template.fds, template.what = key, nonce, numbers, what
        template.created, template.used = time.time(), time.monotonic()
        template.server = ForkServer.connected(os.dup(fds[0]))
        template.held = [os.dup(fd) for fd in fds[1:]]
        self._connections[connection] = None
        if key in self._templates:  # of a run that has done the same at the same time
            self._templates.pop(key).end()
        self._templates[key] = template
        self._bound(template)
        return {}

    def _bound(self, keep: Template) -> None:
        sizes = {key: one.memory for key, one in self._templates.items()}
        for key in sorted(self._templates, key=lambda key: self._templates[key].used):
            within = len(sizes) <= MOST_TEMPLATES and sum(sizes.values()) <= MOST_MEMORY
            if within or self._templates[key] is keep:
                continue
            self._templates.pop(key).end()
            del sizes[key]

    def _lease(
        self, connection: socket.socket, fds: list[int], *, key: str, names: list[str]
    ) -> dict[str, Any]:
        """A clone of a template, for the run that asks."""
        self._users.add(connection)
        template = self._templates.get(key)
        if template is None or template.server is None or template.fds is None:
            return {"pid": None}
        *ends, log, control = fds
        replacements = {
            template.fds[name]: end for name, end in zip(names, ends, strict=True)
        } | dict.fromkeys((1, 2), log)
        try:
            pid = template.server.fork_for(replacements, control, timeout=_FORK_TIMEOUT)
        except CoreInfraError:
            self._templates.pop(key).end()  # no other would be better off with it
            raise
        template.used = time.monotonic()
        return {"pid": pid, "nonce": template.nonce, "numbers": template.fds}

    def _discard(self, _connection: socket.socket, _fds: list[int], *, key: str) -> dict[str, Any]:
        """End a template of which no clone can be made."""
        if (template := self._templates.pop(key, None)) is not None:
            template.end()
        return {}

    def _list(self, _connection: socket.socket, _fds: list[int]) -> dict[str, Any]:
        rows = [
            {
                "key": one.key,
                "pid": one.pid,
                "what": one.what,
                "created": one.created,
                "bytes": one.memory,
            }
            for one in self._templates.values()
        ]
        return {"templates": rows, "pid": os.getpid(), "idle": self._idle}

    def _cool(self, _connection: socket.socket, _fds: list[int]) -> dict[str, Any]:
        self._cooled = True
        return {"ended": len(self._templates)}

    def _forget_dead(self) -> None:
        for key, template in list(self._templates.items()):
            if not template.is_running:
                self._templates.pop(key).end()


def main(number: int, path: str, idle: float) -> None:
    """Serve at the listening socket *number*, which has the name *path*."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps: nobody asks how one ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.set_inheritable(number, False)  # noqa: FBT003 - the os module's signature
    helper = Helper(socket.socket(fileno=number), Path(path), idle)
    try:
        helper.serve()
    finally:
        helper.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
