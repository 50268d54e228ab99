"""One attempt at one spec."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import CommandFailedError, TimeoutExpiredError
from core_infra.process.service import Service

if TYPE_CHECKING:
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


def of_process(process: Process) -> Outcome:
    """What came of a command that has ended."""
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


def of_call(spec: RunSpec) -> Outcome:
    """Call a spec's function."""
    assert spec.call is not None  # noqa: S101 - who calls this has looked
    start = time.monotonic()
    try:
        value = spec.call()
    except CommandFailedError as error:
        return Outcome(time.monotonic() - start, output_bytes=written(error), error=error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
        return Outcome(time.monotonic() - start, error=error)
    return Outcome(time.monotonic() - start, value=value)


def written(error: CommandFailedError) -> bytes:
    """What the program wrote that a call has run."""
    output: bytes = getattr(error, "output", b"") or error.stdout + error.stderr
    return output


_here: dict[str, dict[str, Process]] = {}
"""What :func:`attempt` runs in this process: by the key of the run, then by the spec's name."""

_over: set[str] = set()
"""Keys of the runs that were ended here; what starts too late ends at once."""

_lock = threading.Lock()


def attempt(spec: RunSpec, key: str) -> Outcome:
    """Run a spec to its end; what an executor is given."""
    if spec.call is not None:
        return of_call(spec)
    start = time.monotonic()
    service = Service()
    try:
        process = service.start_with_options(spec.options())
        with _lock:
            _here.setdefault(key, {})[spec.name] = process
            over = key in _over
        if over:
            process.begin_to_stop()
        process.wait()
        return of_process(process)
    except Exception as error:  # noqa: BLE001 - it is the outcome
        return Outcome(time.monotonic() - start, error=error)
    finally:
        service.shutdown()
        with _lock:
            running = _here.get(key, {})
            running.pop(spec.name, None)
            if not running:
                _here.pop(key, None)


def end_here(key: str) -> set[str]:
    """End the commands of a run that run in this process; the names of their specs."""
    with _lock:
        _over.add(key)
        running = dict(_here.get(key, {}))
    for process in running.values():
        process.begin_to_stop()
    return set(running)
