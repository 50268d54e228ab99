"""One attempt at one spec."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import CommandFailedError, TimeoutExpiredError
from core_infra.process.errors import ProcessNotFoundError
from core_infra.process.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.process.info import Usage
    from core_infra.process.process import Process
    from core_infra.process.runner.spec import RunSpec


class Outcome(NamedTuple):
    """What came of it; the fields are those of RunResult."""

    duration: float
    exit_code: int | None = None
    output_bytes: bytes = b""
    error: BaseException | None = None
    value: object = None
    usage: Usage | None = None


_running: dict[str, dict[str, Process | None]] = {}
"""The commands of this process's runs: by the key of the run, then by the spec's name.

None is one that is just being started.
"""

_over: set[str] = set()
"""Keys of the runs that were ended; what starts too late ends at once."""

_lock = threading.Lock()


def attempt(spec: RunSpec, key: str) -> Outcome:
    """Run a spec to its end, and end what it left behind; what an executor is given."""
    with Service() as service:
        return run(spec, key, service)


def run(spec: RunSpec, key: str, service: Service) -> Outcome:
    """Run a spec to its end.

    Args:
        spec: the spec.
        key: names the run that it is part of, for :func:`end`.
        service: starts its command.
    """
    start = time.monotonic()
    try:
        return _call(spec.call) if spec.call is not None else _command(spec, key, service)
    except CommandFailedError as error:
        return Outcome(time.monotonic() - start, output_bytes=_written(error), error=error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what came of the spec
        return Outcome(time.monotonic() - start, error=error)


def end(key: str) -> set[str]:
    """End the commands of a run that run in this process; the names of their specs."""
    with _lock:
        _over.add(key)
        running = dict(_running.get(key, {}))
    for process in running.values():
        if process is not None:
            process.begin_to_stop()
    return set(running)


def forget(key: str) -> None:
    """A run is over, and will start nothing more in this process."""
    with _lock:
        _over.discard(key)


def _call(call: Callable[[], object]) -> Outcome:
    start = time.monotonic()
    value = call()
    return Outcome(time.monotonic() - start, value=value)


def _command(spec: RunSpec, key: str, service: Service) -> Outcome:
    with _lock:
        _running.setdefault(key, {})[spec.name] = None
    process = None
    try:
        process = service.start_with_options(spec.options())
        with _lock:
            _running[key][spec.name] = process
            too_late = key in _over
        if too_late:
            process.begin_to_stop()
        process.wait()
        if process.timed_out or key in _over:
            process.finish_stopping()
        return _of_process(process)
    finally:
        with _lock:
            del _running[key][spec.name]
            if not _running[key]:
                del _running[key]
        if process is not None and not process.is_running():
            with contextlib.suppress(ProcessNotFoundError):  # somebody has cleared the service
                service.remove(process.id)


def _of_process(process: Process) -> Outcome:
    info = process.info()
    error = None
    if process.timed_out:
        timeout = process.options.timeout
        what = f"{process.options.command!r} did not end within {timeout:g} s and was ended"
        error = TimeoutExpiredError(what, timeout=timeout)
    return Outcome(
        duration=info.duration,
        exit_code=info.exit_code,
        output_bytes=process.output_bytes(),
        error=error,
        usage=info.usage,
    )


def _written(error: CommandFailedError) -> bytes:
    """What the program wrote that a call has run."""
    output: bytes = getattr(error, "output", b"") or error.stdout + error.stderr
    return output
