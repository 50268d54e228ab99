"""One attempt at one spec."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from core_infra._unpatched import time
from core_infra.errors import CommandFailedError, TimeoutExpiredError
from core_infra.framework._handlers import refuse_coroutine
from core_infra.process._service import Service, start_managed

if TYPE_CHECKING:
    from core_infra.process._managed_process import ManagedProcess
    from core_infra.process._runner.spec import RunSpec
    from core_infra.process._status import Usage


class Outcome(NamedTuple):
    """The outcome of an attempt; its fields are those of RunResult."""

    duration: float
    exit_code: int | None = None
    output_bytes: bytes = b""
    output_lost: int = 0
    error: BaseException | None = None
    value: object = None
    usage: Usage | None = None
    cached: bool = False


_running: dict[str, dict[str, ManagedProcess | None]] = {}
"""The commands of runs in this process, by the key of the run, then by the spec's name.

None is one that is being started.
"""

_stopped: set[str] = set()
"""Keys of runs that were stopped; a command that starts too late ends at once."""

_lock = threading.Lock()


def attempt(spec: RunSpec, key: str) -> Outcome:
    """Run a spec to its end, and kill what it left behind; called by an executor.

    Args:
        spec: the spec.
        key: of the run that it is part of, for :func:`stop`.
    """
    if spec.call is not None:
        return call(spec)
    start = time.monotonic()
    try:
        with Service() as service:
            return _command(spec, key, service)
    except BaseException as error:  # noqa: BLE001 - any error is the outcome of the spec
        return Outcome(time.monotonic() - start, error=error)


def call(spec: RunSpec) -> Outcome:
    """Call a spec's function."""
    assert spec.call is not None  # noqa: S101 - callers check it
    start = time.monotonic()
    try:
        value = spec.call()
        refuse_coroutine(value, f"the call of {spec.name!r}")
        return Outcome(time.monotonic() - start, value=value)
    except CommandFailedError as error:
        return Outcome(time.monotonic() - start, output_bytes=_written(error), error=error)
    except BaseException as error:  # noqa: BLE001 - any error is the outcome of the spec
        return Outcome(time.monotonic() - start, error=error)


def outcome(process: ManagedProcess, *, stopped: bool) -> Outcome:
    """The outcome of a command that is over; waits until a command that was stopped is gone.

    Args:
        process: it is over.
        stopped: it was stopped by us, not by its timeout.
    """
    usage = process.usage
    error: BaseException | None = process.error
    if process.timed_out:
        timeout = process.options.timeout
        what = f"{process.options.command!r} did not end within {timeout:g} s and was stopped"
        error = TimeoutExpiredError(what, timeout=timeout)
    try:
        if process.timed_out or stopped:
            process.await_stopped()
    except TimeoutExpiredError as unkillable:
        error = unkillable
    written = process.kept_output()
    return Outcome(
        usage.wall if usage else 0.0,
        process.exit_code,
        written.data,
        written.lost,
        error,
        usage=usage,
    )


def stop(key: str, grace: float | None = None) -> set[str]:
    """Stop the commands of a run in this process; returns the names of their specs.

    Args:
        key: of the run.
        grace: seconds that each has to end; None is its own grace.
    """
    with _lock:
        _stopped.add(key)
        running = dict(_running.get(key, {}))
    for process in running.values():
        if process is not None:
            process.start_stopping(grace)
    return set(running)


def forget(key: str) -> None:
    """Forget a run that was stopped: it will start nothing more in this process."""
    with _lock:
        _stopped.discard(key)


def _command(spec: RunSpec, key: str, service: Service) -> Outcome:
    with _lock:
        _running.setdefault(key, {})[spec.name] = None
    try:
        process = start_managed(service, spec.options())
        with _lock:
            _running[key][spec.name] = process
            too_late = key in _stopped
        if too_late:
            process.start_stopping()
        process.wait()
        return outcome(process, stopped=key in _stopped)
    finally:
        with _lock:
            del _running[key][spec.name]
            if not _running[key]:
                del _running[key]


def _written(error: CommandFailedError) -> bytes:
    """The output of the program that a call has run."""
    output: bytes = getattr(error, "output", b"") or error.stdout + error.stderr
    return output
