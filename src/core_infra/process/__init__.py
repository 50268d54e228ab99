"""Child processes: started, watched, and gone when they should be."""

from core_infra.process._child import Child, spawn
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
from core_infra.process._events import (
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    Stream,
)
from core_infra.process._leftovers import Leftover
from core_infra.process._options import RunOptions
from core_infra.process._output import Piece, RingBuffer
from core_infra.process._probes import (
    Check,
    CommandSucceeds,
    FileExists,
    HttpStatus,
    LogPattern,
    Probe,
    TcpPort,
    UnixSocket,
)
from core_infra.process._process import Process
from core_infra.process._restart import RestartPolicy
from core_infra.process._service import Service, ServiceOptions, new_service
from core_infra.process._shared_process import SharedProcess, Start
from core_infra.process._status import ProcessInfo, Status, Usage

__all__ = [
    "ActionProcessExited",
    "ActionProcessKilled",
    "ActionProcessOutput",
    "ActionProcessStarted",
    "CannotKillError",
    "CannotStartError",
    "Check",
    "Child",
    "CommandSucceeds",
    "FileExists",
    "HttpStatus",
    "Leftover",
    "LogPattern",
    "NotReadyError",
    "Piece",
    "Probe",
    "Process",
    "ProcessInfo",
    "ProcessNotFoundError",
    "ProgramNotFoundError",
    "RestartPolicy",
    "RingBuffer",
    "RunFailedError",
    "RunOptions",
    "RunTimeoutError",
    "Service",
    "ServiceNotInitializedError",
    "ServiceOptions",
    "SharedProcess",
    "Start",
    "Status",
    "Stream",
    "TcpPort",
    "UnixSocket",
    "Usage",
    "clear",
    "default",
    "get",
    "init",
    "kill",
    "list",
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
