"""Child processes: started, watched, and gone when they should be.

:class:`Service` starts and runs programs; :class:`Runner` runs specs by their dependencies. The
functions :func:`run`, :func:`start`, … use one default service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra import _lazy
from core_infra.process._child import Child, spawn
from core_infra.process._errors import (
    CannotKillError,
    CannotStartError,
    NotReadyError,
    ProcessNotFoundError,
    ProgramNotFoundError,
    RunFailedError,
    RunTimeoutError,
    ServiceNotInitializedError,
)

if TYPE_CHECKING:
    from core_infra.process._captured_run import CommandResult
    from core_infra.process._default_service import (
        clear,
        default,
        get,
        init,
        kill,
        list,  # noqa: A004 - of processes: this package is the namespace
        output,
        remove,
        run,
        run_with_options,
        running,
        set_default,
        start,
        start_with_options,
    )
    from core_infra.process._events import (
        ActionProcessExited,
        ActionProcessKilled,
        ActionProcessOutput,
        ActionProcessStarted,
        Stream,
    )
    from core_infra.process._leftovers import Leftover
    from core_infra.process._log_pattern import LogPattern
    from core_infra.process._options import RunOptions, ServiceOptions
    from core_infra.process._output import Piece, RingBuffer, StreamParts
    from core_infra.process._probes import (
        Check,
        CommandSucceeds,
        FileExists,
        HttpStatus,
        TcpPort,
        UnixSocket,
    )
    from core_infra.process._process import Probe, Process
    from core_infra.process._restart import RestartPolicy
    from core_infra.process._runner.cancellation import Cancellation
    from core_infra.process._runner.durations import Durations
    from core_infra.process._runner.events import (
        RunEvent,
        RunFinished,
        RunStarted,
        SpecFinished,
        SpecStarted,
        SpecWrote,
    )
    from core_infra.process._runner.freshness import Freshness
    from core_infra.process._runner.graph import InvalidGraphError
    from core_infra.process._runner.live_display import LiveDisplay
    from core_infra.process._runner.results import (
        RunAllResult,
        RunAllTimeoutError,
        RunInterruptedError,
        RunResult,
    )
    from core_infra.process._runner.runner import Runner
    from core_infra.process._runner.schedule import PlannedSpec, RunPlan
    from core_infra.process._runner.spec import RunSpec
    from core_infra.process._runner.taskfile import TaskFile, TaskFileError, load_tasks
    from core_infra.process._runner.text_display import LineDisplay, LogDisplay
    from core_infra.process._service import Service, new_service
    from core_infra.process._shared_process import SharedProcess, Start
    from core_infra.process._status import ProcessInfo, Status, Usage
    from core_infra.process._terminal import Terminal
else:
    # Machines need hypervisors as children only; and the runner, the probes (an HTTP client) and
    # shared processes (file locks) are not needed by all that start programs.
    __getattr__ = _lazy.exports(
        __name__,
        {
            "._captured_run": ("CommandResult",),
            "._default_service": (
                "clear",
                "default",
                "get",
                "init",
                "kill",
                "list",
                "output",
                "remove",
                "run",
                "run_with_options",
                "running",
                "set_default",
                "start",
                "start_with_options",
            ),
            "._events": (
                "ActionProcessExited",
                "ActionProcessKilled",
                "ActionProcessOutput",
                "ActionProcessStarted",
                "Stream",
            ),
            "._leftovers": ("Leftover",),
            "._log_pattern": ("LogPattern",),
            "._options": ("RunOptions", "ServiceOptions"),
            "._output": ("Piece", "RingBuffer", "StreamParts"),
            "._process": ("Probe", "Process"),
            "._restart": ("RestartPolicy",),
            "._service": ("Service", "new_service"),
            "._status": ("ProcessInfo", "Status", "Usage"),
            "._terminal": ("Terminal",),
            "._probes": (
                *("Check", "CommandSucceeds", "FileExists"),
                *("HttpStatus", "TcpPort", "UnixSocket"),
            ),
            "._runner.cancellation": ("Cancellation",),
            "._runner.durations": ("Durations",),
            "._runner.events": (
                *("RunEvent", "RunFinished", "RunStarted"),
                *("SpecFinished", "SpecStarted", "SpecWrote"),
            ),
            "._runner.freshness": ("Freshness",),
            "._runner.graph": ("InvalidGraphError",),
            "._runner.live_display": ("LiveDisplay",),
            "._runner.results": (
                *("RunAllResult", "RunAllTimeoutError", "RunInterruptedError", "RunResult"),
            ),
            "._runner.runner": ("Runner",),
            "._runner.schedule": ("PlannedSpec", "RunPlan"),
            "._runner.spec": ("RunSpec",),
            "._runner.taskfile": ("TaskFile", "TaskFileError", "load_tasks"),
            "._runner.text_display": ("LineDisplay", "LogDisplay"),
            "._shared_process": ("SharedProcess", "Start"),
        },
    )

__all__ = [
    "ActionProcessExited",
    "ActionProcessKilled",
    "ActionProcessOutput",
    "ActionProcessStarted",
    "Cancellation",
    "CannotKillError",
    "CannotStartError",
    "Check",
    "Child",
    "CommandResult",
    "CommandSucceeds",
    "Durations",
    "FileExists",
    "Freshness",
    "HttpStatus",
    "InvalidGraphError",
    "Leftover",
    "LineDisplay",
    "LiveDisplay",
    "LogDisplay",
    "LogPattern",
    "NotReadyError",
    "Piece",
    "PlannedSpec",
    "Probe",
    "Process",
    "ProcessInfo",
    "ProcessNotFoundError",
    "ProgramNotFoundError",
    "RestartPolicy",
    "RingBuffer",
    "RunAllResult",
    "RunAllTimeoutError",
    "RunEvent",
    "RunFailedError",
    "RunFinished",
    "RunInterruptedError",
    "RunOptions",
    "RunPlan",
    "RunResult",
    "RunSpec",
    "RunStarted",
    "RunTimeoutError",
    "Runner",
    "Service",
    "ServiceNotInitializedError",
    "ServiceOptions",
    "SharedProcess",
    "SpecFinished",
    "SpecStarted",
    "SpecWrote",
    "Start",
    "Status",
    "Stream",
    "StreamParts",
    "TaskFile",
    "TaskFileError",
    "TcpPort",
    "Terminal",
    "UnixSocket",
    "Usage",
    "clear",
    "default",
    "get",
    "init",
    "kill",
    "list",
    "load_tasks",
    "new_service",
    "output",
    "remove",
    "run",
    "run_with_options",
    "running",
    "set_default",
    "spawn",
    "start",
    "start_with_options",
]
