"""The inside of a machine as tests use it: run commands, copy files, wait for conditions."""

from __future__ import annotations

import contextlib
import functools
import signal
import stat
from typing import TYPE_CHECKING

from core_infra._unpatched import os, time
from core_infra.errors import CommandFailedError, CoreInfraError, InvalidError
from core_infra.vm import _timeouts as timeouts
from core_infra.vm._guest import file_transfer, tree_transfer, waiting
from core_infra.vm._guest.atomic_write import atomic_file, atomic_tree
from core_infra.vm._guest.calls import GuestCalls
from core_infra.vm._guest.command import as_argv
from core_infra.vm._guest.process import GuestProcess
from core_infra.vm._guest.results import ExecResult, describe_exit, shown_output

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Mapping, Sequence

    from core_infra.vm._guest.async_guest import AsyncGuest
    from core_infra.vm._guest.client import AgentClient
    from core_infra.vm._guest.run_config import RunConfig
    from core_infra.vm._guest.timeline import Step

_TIDY = 5.0
"""Seconds that a copy which has failed may take to remove what has arrived."""

_COPY = 60.0
_VIRTUAL = {"9fa0", "62656572"}  # the magic numbers of procfs and sysfs, as statfs(2) has them


class Guest:
    """The inside of a running machine, reached through its agent.

    A command is a string, run by ``/bin/sh -c``, or a sequence of arguments, run as it is. It runs
    as root in ``/root`` by default, or as an OCI image sets it: environment, directory, user.

    Timeouts are in seconds. The defaults grow on slow hosts (``CORE_INFRA_TIMEOUT_FACTOR``): a
    minute for a command or for copying files, half a minute for waiting, on a host that boots a
    guest in half a second.

    Args:
        agent: returns the connection to the agent; raises WrongStateError unless the machine runs.
        needs_greeting: whether *agent* would first wait for an answer of the agent.
        run_config: how its image wants commands to be run.

    Attributes:
        history: the last commands with their results, newest last. All attempts of a call that
            waits are one step, a :class:`WaitResult`.
    """

    def __init__(
        self,
        agent: Callable[[], AgentClient],
        *,
        needs_greeting: Callable[[], bool] = lambda: False,
        run_config: RunConfig | None = None,
    ) -> None:
        self._calls = GuestCalls(agent, needs_greeting, run_config)
        self._agent = agent
        self._timeline = self._calls.timeline
        self.history: deque[ExecResult] = self._timeline.history

    @functools.cached_property
    def aio(self) -> AsyncGuest:
        """The same for asyncio: ``await machine.aio.exec(...)``; no thread waits meanwhile."""
        from core_infra.vm._guest.async_guest import AsyncGuest  # noqa: PLC0415 - imports asyncio

        return AsyncGuest(self, self._calls)

    def exec(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        input: str | bytes | None = None,  # noqa: A002 - subprocess's name for it
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        timeout: float | None = None,
        check: bool = False,
    ) -> ExecResult:
        """Run a command to its end, and keep all its output; :meth:`stream` follows one instead.

        Args:
            command: a line for the shell, or a sequence of arguments.
            input: its standard input; empty by default.
            env: variables added to the guest's own.
            cwd: its working directory; default: the user's home.
            user: the user that it runs as, a name or a number; default: root.
            timeout: seconds until it is killed, with all of its process group.
            check: raise an error if its exit code is not 0.

        Raises:
            GuestCommandError: *check* was set and it failed.
            GuestCommandTimeoutError: it did not end in time; carries its output until then.
            GuestOperationError: it could not be started: no such program, user or directory; or it
                wrote more than 512 MiB, and was killed.
            InvalidError: the command is empty, or a part of it cannot be passed to a program.
            GuestGoneError: the machine ended meanwhile.
            MachinePausedError: this host's disk is full, and stayed so for some seconds.
        """
        limit = timeouts.limit(timeout, 60)
        argv = as_argv(command)
        with self._calls.executed(argv, limit, cwd, user) as step:
            result = self._run(argv, limit, input=input, env=env, cwd=cwd, user=user, step=step)
            self._timeline.add_result(step, result)
        return result.check() if check else result

    def stream(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        timeout: float | None = None,
    ) -> GuestProcess:
        """Start a command and follow it: iterate for its lines, or wait, signal, feed it.

        The arguments are those of :meth:`exec`; there is no default timeout. Use it in a ``with``
        block, which kills it at the end.
        """
        step = self._calls.streamed(command, cwd, user)
        return GuestProcess(
            self._calls.start(command, env=env, cwd=cwd, user=user, timeout=timeout, step=step)
        )

    def read_bytes(self, path: str) -> bytes:
        """The content of a file in the guest.

        Raises:
            GuestOperationError: it cannot be read.
            InvalidError: it has more than 512 MiB, or no end, as ``/dev/zero``.
        """
        with self._timeline.step("read", str(path)):
            return file_transfer.read_whole(self._agent(), path, timeouts.scaled(30))

    def read_text(self, path: str) -> str:
        """The content of a UTF-8 text file in the guest; InvalidError if it is not one."""
        try:
            return self.read_bytes(path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidError(
                f"cannot read {path!r} of the guest as text",
                why=str(error),
                todo="read_bytes() returns its content as it is.",
            ) from error

    def write_bytes(self, path: str, data: bytes) -> None:
        """Replace a file in the guest, all at once; parents are made, an old mode is kept."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidError(
                f"cannot write {type(data).__name__} to {path!r} of the guest", todo="Give bytes."
            )
        with self._timeline.step("write", f"{path} ({len(data)} bytes)"):
            pieces = file_transfer.pieces_of(data)
            file_transfer.write_file(self._agent(), path, pieces, timeouts.scaled(30))

    def write_text(self, path: str, text: str) -> None:
        """Replace a text file in the guest (UTF-8), all at once; parents are made."""
        if not isinstance(text, str):
            raise InvalidError(
                f"cannot write {type(text).__name__} to {path!r} of the guest", todo="Give a text."
            )
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidError(f"cannot write to {path!r} of the guest", why=str(error)) from error
        self.write_bytes(path, data)

    def push(
        self, source: str | os.PathLike[str], target: str, *, timeout: float | None = None
    ) -> None:
        """Copy a file or a directory of this host into the guest.

        A file becomes *target*, or goes into it by its own name if *target* ends in ``/``. A
        directory's content goes into the directory *target*, which is made; links and modes are
        kept, the owner becomes root.

        Raises:
            TimeoutExpiredError: it takes longer than *timeout* seconds.
            NotFoundError: there is no *source*.
            InvalidError: *source* is neither a file nor a directory, or cannot be read.
        """
        with self._timeline.step("push", f"{source} to {target}"):
            self._push(source, target, timeouts.limit(timeout, _COPY))

    def _push(self, source: str | os.PathLike[str], target: str, limit: float) -> None:
        path = file_transfer.host_path(source)
        file_transfer.guest_path(target)
        try:
            mode = file_transfer.file_mode(path)
            if mode is None:
                argv = tree_transfer.unpack_command(target, path)
                with self._own(argv, limit) as process:
                    try:
                        tree_transfer.send_tree(process, path)
                    except BaseException:
                        self._end_copy(process)
                        raise
                    self._require_success(process.collect(), f"cannot push {path} to {target!r}")
                return
            if target.endswith("/"):
                target += path.name
            with path.open("rb") as file:
                pieces = file_transfer.in_time(
                    file_transfer.chunks_of(file), limit, f"pushing {path}"
                )
                file_transfer.write_file(self._agent(), target, pieces, timeouts.scaled(30), mode)
        except OSError as error:
            raise InvalidError(f"cannot push {path}", why=str(error)) from error

    def pull(
        self, source: str, target: str | os.PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Copy a file or a directory of the guest to this host.

        A file becomes *target*, or goes into it by its own name if *target* is a directory. A
        directory's content goes into the directory *target*, which is made; nothing is ever
        written outside it or through a link, whatever the guest sends.

        Raises:
            TimeoutExpiredError: it takes longer than *timeout* seconds.
            InvalidError: *source* is a device or the like, or a directory of a virtual file system
                (procfs, sysfs), whose content has no end.
        """
        with self._timeline.step("pull", f"{source} to {target}"):
            self._pull(source, target, timeouts.limit(timeout, _COPY))

    def _pull(self, source: str, target: str | os.PathLike[str], limit: float) -> None:
        path = file_transfer.host_path(target)
        file_transfer.guest_path(source)
        found = self._look(["stat", "-L", "-c", "%F|%a", source]).stdout.strip()
        kind, _, mode = found.partition("|")
        if kind == "directory":
            if self._look(["stat", "-f", "-c", "%t", source]).stdout.strip() in _VIRTUAL:
                raise InvalidError(
                    f"cannot pull {source!r}",
                    why="it is of a virtual file system of the kernel, and may have no end",
                )
            with atomic_tree(path, f"cannot pull {source!r}") as part:
                pack = tree_transfer.pack_command(source)
                with self._own(pack, limit) as process:
                    errors = tree_transfer.receive_tree(process, part)
                    code = process.wait()
                result = ExecResult(process.command, code, b"", errors, 0.0)
                self._require_success(result, f"cannot pull {source!r} to {path}")
                if mode:
                    part.chmod(int(mode, 8) & 0o777)
            return
        if kind and not kind.startswith("regular"):
            raise InvalidError(
                f"cannot pull {source!r}", why=f"it is neither a file nor a directory, but a {kind}"
            )
        if path.is_dir():
            path = path / file_transfer.base_name(source)
        content = file_transfer.read_file(self._agent(), source, min(limit, timeouts.scaled(30)))
        with atomic_file(path, f"cannot pull {source!r} to {path}") as file:
            file.writelines(file_transfer.in_time(content, limit, f"pulling {source!r}"))
            if mode and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                os.fchmod(file.fileno(), int(mode, 8) & 0o777)

    def wait_until_succeeds(
        self, command: str | Sequence[str | os.PathLike[str]], *, timeout: float | None = None
    ) -> ExecResult:
        """Run a command repeatedly until its exit code is 0; returns that result.

        Raises:
            TimeoutExpiredError: it still fails after *timeout* seconds; shows the last attempt.
        """
        return self._take(waiting.until_succeeds(self._timeline, command, timeout))

    def wait_for_file(self, path: str, *, timeout: float | None = None) -> None:
        """Wait until *path* exists in the guest; TimeoutExpiredError after *timeout* seconds."""
        self._take(waiting.for_file(self._timeline, path, timeout))

    def wait_for_port(self, port: int, *, timeout: float | None = None) -> None:
        """Wait until a program in the guest listens on a TCP *port*.

        The guest's own table of sockets is read; nothing connects, so a server that accepts only
        once is left alone. TimeoutExpiredError after *timeout* seconds.
        """
        self._take(waiting.for_port(self._timeline, port, timeout))

    def _end_copy(self, process: GuestProcess) -> None:
        """End a copy that failed here; it removes what has arrived before it ends."""
        with contextlib.suppress(CoreInfraError):
            process.signal(signal.SIGTERM)
            process.wait(_TIDY)

    def _own(self, argv: Sequence[str], limit: float) -> GuestProcess:
        """Start a command of our own, not the test's."""
        env, user = waiting.OWN["env"], waiting.OWN["user"]
        return GuestProcess(self._calls.start(argv, env=env, user=user, timeout=limit))

    def _run(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        limit: float,
        *,
        input: str | bytes | None = None,  # noqa: A002 - as in exec
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        step: Step | None = None,
    ) -> ExecResult:
        """Run a command to its end; it is not added to the history."""
        running = self._calls.start(
            command,
            env=env,
            cwd=cwd,
            user=user,
            timeout=limit,
            no_input=input is None,
            step=step,
        )
        # The block kills the command if an exception such as Ctrl-C's interrupts it.
        with GuestProcess(running) as process:
            if input is not None:
                process.send_input(input)
            process.close_stdin()
            return process.collect()

    def _look(self, command: str | Sequence[str]) -> ExecResult:
        """Run a command of our own, not the test's."""
        return self._run(command, timeouts.scaled(60), **waiting.OWN)

    def _take(self, steps: waiting.Steps) -> ExecResult:
        """Take the steps of waiting, on this thread."""
        try:
            step = next(steps)
            while True:
                if step is None:
                    with self._calls.working():
                        time.sleep(waiting.INTERVAL)
                    step = steps.send(waiting.NOTHING)
                    continue
                try:
                    result = self._run(step.command, step.limit, **step.place)
                except BaseException as error:  # noqa: BLE001 - the steps raise it again
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            found: ExecResult = end.value
            return found

    @staticmethod
    def _require_success(result: ExecResult, what: str) -> None:
        if result.exit_code != 0:
            raise CommandFailedError(
                what,
                why=f"{describe_exit(result.exit_code)}{shown_output(result)}",
                command=result.command,
                exit_code=result.exit_code,
                stdout=result.stdout_bytes,
                stderr=result.stderr_bytes,
            )
