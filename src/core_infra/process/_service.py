"""The service that starts programs, keeps their output, and ends them."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from core_infra._eventloop.caller_loop import CallerLoop, handlers_only_raise
from core_infra._eventloop.supervisor import require_real_threads, supervisor
from core_infra._unpatched import os
from core_infra.errors import InvalidError, WrongStateError
from core_infra.process._errors import (
    CannotKillError,
    ProcessNotFoundError,
    RunFailedError,
    RunTimeoutError,
)
from core_infra.process._events import Stream
from core_infra.process._leftovers import Leftover, find_leftovers
from core_infra.process._managed_process import ManagedProcess
from core_infra.process._options import RunOptions, ServiceOptions, check_service_options
from core_infra.process._output import DEFAULT_SIZE
from core_infra.process._publisher import BusPublisher, NullPublisher
from core_infra.process._reaper.registry import ProgramGroup
from core_infra.process._status import ENDED, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core_infra._eventloop.loop import Loop
    from core_infra.framework._bus import Bus
    from core_infra.framework._core import Core
    from core_infra.process._managed_process import Publisher
    from core_infra.process._process import Process


_UNLIMITED = sys.maxsize  # a ring buffer allocates memory only as it fills
_RUN_LINGER = 1.0


class Service:
    """Starts programs, and ends all that it started when it is shut down or its block is left.

    Args:
        core: its bus receives the events of all processes (``ActionProcessStarted``, …); None
            publishes none.
        options: of all processes.

    Raises:
        InvalidError: an argument is of another type.
        UnavailableError: gevent or eventlet has patched threads or ``select``.
    """

    def __init__(self, core: Bus | None = None, options: ServiceOptions | None = None) -> None:
        require_real_threads()
        check_service_options(options)
        if core is not None:
            _check_bus(core)
        self.options = options or ServiceOptions()
        self._publisher: Publisher = NullPublisher() if core is None else BusPublisher(core)
        self._processes: dict[str, ManagedProcess] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._open = True
        self._owner = os.getpid()
        self._group = ProgramGroup()

    def start(self, command: str | os.PathLike[str], *args: str | os.PathLike[str]) -> Process:
        """Start a program and return at once; raises as :meth:`start_with_options` does."""
        return self.start_with_options(RunOptions(command, args))

    def start_with_options(self, options: RunOptions) -> Process:
        """Start a program and return at once.

        Args:
            options: the program, and how to run it.

        Raises:
            InvalidError: the options are not possible.
            ProgramNotFoundError: the program, or its directory, does not exist.
            CannotStartError: the system does not start it.
            WrongStateError: the service has been shut down.
        """
        return self._start(options)

    def _start(
        self,
        options: RunOptions,
        loop: Loop | None = None,
        on_done: Callable[[], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> ManagedProcess:
        process = self._new(options, loop or supervisor(), on_done, on_output)
        try:
            self._add(process)
            process.start(report_at_once=loop is None)
            if loop is None:
                process.await_start()
        except BaseException as error:  # KeyboardInterrupt: nobody gets the process
            self._give_up(process, error)
            raise
        return process

    def _new(
        self,
        options: RunOptions,
        loop: Loop,
        on_done: Callable[[], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
        *,
        default_input: bytes | None = None,
        default_size: int = DEFAULT_SIZE,
        linger: float = 0,
    ) -> ManagedProcess:
        if not isinstance(options, RunOptions):
            raise InvalidError(f"options is {options!r}", why="it must be RunOptions")
        options.check()
        stdin = options.input()
        return ManagedProcess(
            f"proc-{next(self._numbers)}",
            options,
            stdin=default_input if stdin is None else stdin,
            buffer_size=options.buffer_size or self.options.buffer_size or default_size,
            group=self._group.use(),
            publisher=self._publisher,
            loop=loop,
            on_done=on_done,
            on_output=on_output,
            linger=linger,
        )

    def _add(self, process: ManagedProcess) -> None:
        program = os.fspath(process.options.command)
        if self._owner != os.getpid():
            raise WrongStateError(
                f"cannot start {program!r}",
                why="this process was forked from the one that made the service",
                todo="Make a service of your own after the fork.",
                needed=f"process {self._owner}",
                found=f"process {os.getpid()}",
            )
        if sys.is_finalizing():  # threads have stopped: its end would not be processed
            raise WrongStateError(
                f"cannot start {program!r}",
                why="Python is ending",
                todo="Start it in an atexit function, not in a finalizer.",
                needed="running",
                found="ending",
            )
        with self._lock:
            if not self._open:
                raise WrongStateError(
                    f"cannot start {program!r}",
                    why="the service has been shut down",
                    needed="open",
                    found="shut down",
                )
            self._processes[process.id] = process

    def run(self, command: str | os.PathLike[str], *args: str | os.PathLike[str]) -> str:
        """Run a program to its end and return its output; see :meth:`run_with_options`."""
        return self.run_with_options(RunOptions(command, args))

    def run_with_options(self, options: RunOptions) -> str:
        """Run a program to its end and return its output, stdout and stderr as they arrived.

        All of it, unless ``buffer_size`` of its options or of the service limits it to the end.
        Programs that it leaves running may write for ``linger`` seconds more; later output is not
        returned.

        Raises:
            CannotKillError: it was killed, and still runs 10 seconds later.
            RunFailedError: its exit code is not 0; the error has the code and the output.
            RunTimeoutError: it did not end within ``options.timeout``, and was stopped.
            CoreInfraError: as :meth:`start_with_options` does.
        """
        with (
            CallerLoop() if handlers_only_raise() else contextlib.nullcontext(supervisor()) as loop
        ):
            process = self._new(
                options, loop, default_input=b"", default_size=_UNLIMITED, linger=_RUN_LINGER
            )
            try:
                self._add(process)
                # A thread that is woken in between reacts faster to the end than one that sleeps.
                process.start(report_at_once=True)
                exit_code = process.wait()
            except BaseException as error:  # KeyboardInterrupt: nobody gets the process
                if process.status is Status.RUNNING:
                    with contextlib.suppress(CannotKillError):
                        process.stop()
                self._give_up(process, error)
                raise
            finally:
                self._forget(process)
        if process.timed_out or exit_code != 0:
            raise _run_error(process, exit_code)
        return process.kept_output().data.decode(errors="replace")

    def get(self, name: str) -> Process:
        """Return a process by its id.

        Raises:
            ProcessNotFoundError: there is none, or it was removed.
        """
        try:
            return self._processes[name]
        except (KeyError, TypeError):  # TypeError: it cannot be a key
            raise ProcessNotFoundError(
                f"there is no process {name!r}",
                why=f"there are {', '.join(self._processes) or 'none'}",
                id=name,
            ) from None

    def list(self) -> Sequence[Process]:
        """All processes that were not removed, in the order of their start."""
        with self._lock:
            return [*self._processes.values()]

    def running(self) -> Sequence[Process]:
        """The processes that are not over, in the order of their start."""
        return [process for process in self.list() if process.status not in ENDED]

    def kill(self, name: str) -> None:
        """End a process and all that it ever started, at once.

        Raises:
            ProcessNotFoundError: there is none with this id.
        """
        self.get(name).kill()

    def remove(self, name: str) -> None:
        """Remove a process that is over.

        Raises:
            ProcessNotFoundError: there is none with this id.
            WrongStateError: it still runs.
        """
        process = self.get(name)
        if process.status not in ENDED:
            raise WrongStateError(
                f"cannot remove {process}",
                why="it still runs",
                todo="kill() it first.",
                needed=" or ".join(sorted(ENDED)),
                found=str(process.status),
            )
        self._forget(process)

    def clear(self) -> None:
        """Remove all processes that are over."""
        for process in self.list():
            if process.status in ENDED:
                self._forget(process)

    def output(self, name: str) -> str:
        """The kept output of a process.

        Raises:
            ProcessNotFoundError: there is none with this id.
        """
        return self.get(name).output()

    def leftovers(self) -> Sequence[Leftover]:
        """All that runs: processes, and what they left behind, except what is detached."""
        return find_leftovers(self._group.members, self.list())

    def shutdown(self) -> None:
        """Stop all processes but the detached, all at once, each with its own grace period.

        What they left behind is killed. Nothing can be started after it. When it returns, all
        their events have been published.

        Raises:
            CannotKillError: something still runs 10 seconds after it was killed; all else is gone.
        """
        try:
            if self._owner != os.getpid():
                return  # a forked child: the programs belong to the parent
            with self._lock:
                self._open = False
            own = self._own()
            processes = [process for process in own if process.status not in ENDED]
            for process in processes:
                process.start_stopping()
            errors = [error for process in processes if (error := _await_stopped(process))]
            if not errors:
                self._group.kill()
            for process in own:  # also of those that had just ended
                process.await_done()
        except BaseException:  # KeyboardInterrupt: perhaps shutdown() is not called again
            for process in self._own():
                if process.status not in ENDED:
                    process.start_stopping(0)
            self._group.start_killing()
            raise
        self._publisher.close()
        if errors:
            self._group.start_killing()
            raise errors[0]
        self._group.release()

    def on_shutdown(self) -> None:
        """Shut down; called by the core."""
        self.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _own(self) -> Sequence[ManagedProcess]:
        """All but the detached."""
        with self._lock:
            processes = [*self._processes.values()]
        return [process for process in processes if not process.options.detach]

    def _give_up(self, process: ManagedProcess, error: BaseException) -> None:
        if process.id in self._processes:  # else _add() has raised
            process.give_up(error)

    def _forget(self, process: Process) -> None:
        with self._lock:
            self._processes.pop(process.id, None)


def new_service(options: ServiceOptions | None = None) -> Callable[[Core], Service]:
    """Return a factory of services, for ``with_name("process", …)`` in a core."""
    check_service_options(options)
    return lambda core: Service(core, options)


def _check_bus(core: object) -> None:
    from core_infra.framework._bus import Bus  # noqa: PLC0415 - most services have none

    if not isinstance(core, Bus):
        raise InvalidError(f"core is {core!r}", why="it must be a Bus or a Core")


def start_managed(
    service: Service,
    options: RunOptions,
    *,
    loop: Loop | None = None,
    on_done: Callable[[], None] | None = None,
    on_output: Callable[[bytes], None] | None = None,
) -> ManagedProcess:
    """Start a program for the runner.

    Args:
        service: starts it.
        options: the program, and how to run it.
        loop: serves it, and its start: an error of the start is then its ``error``, and is not
            raised. None is the supervisor.
        on_done: called when it is over and all its output has been published, on any thread.
        on_output: called with each piece of output until it is over, on the loop's thread.

    Raises:
        CoreInfraError: as :meth:`Service.start_with_options` does.
    """
    return service._start(options, loop, on_done, on_output)  # noqa: SLF001 - not for users


def forget_managed(service: Service, process: ManagedProcess) -> None:
    """Remove a process of the runner that is over."""
    service._forget(process)  # noqa: SLF001 - not for users


def _await_stopped(process: ManagedProcess) -> CannotKillError | None:
    try:
        process.await_stopped()
    except CannotKillError as error:
        return error
    return None


def _run_error(process: Process, exit_code: int) -> RunFailedError | RunTimeoutError:
    argv = process.options.argv()
    facts: dict[str, Any] = {
        "command": argv,
        "exit_code": exit_code,
        "output": process.output_bytes(),
        "stdout": process.output_bytes(Stream.STDOUT),
        "stderr": process.output_bytes(Stream.STDERR),
    }
    tail = "\n".join(process.output().splitlines()[-20:])
    shown = f"its last output:\n{tail}" if tail else "it wrote nothing"
    if process.timed_out:
        timeout = process.options.timeout
        what = f"{argv[0]!r} did not end within {timeout:g} s and was stopped"
        return RunTimeoutError(what, why=shown, timeout=timeout, **facts)
    how = f"exit code {exit_code}" if exit_code >= 0 else f"signal {-exit_code}"
    return RunFailedError(f"{argv[0]!r} failed with {how}", why=shown, **facts)
