"""What a machine looks like inside, by a survey of its agent: files, processes, ports, …."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from core_infra.errors import CommandFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from core_infra.vm._guest.guest import Guest

_TICKS = 100
"""The unit of times in /proc: clock ticks per second, as all Linux systems of today have it."""


class File(NamedTuple):
    """A file, as lstat(2) shows it.

    Attributes:
        kind: "f" (regular), "d", "l" or "s" (anything else).
        mode: permission bits.
        uid: the owner.
        size: bytes.
        changed: when its content or its metadata changed, in ns since 1970.
    """

    kind: str
    mode: int
    uid: int
    size: int
    changed: int


class Process(NamedTuple):
    """A process.

    Attributes:
        pid: its id.
        parent: that of its parent.
        started: in clock ticks since the guest's start.
        state: a letter, as in /proc: R, S, D (waits for a device), Z (has ended), T (stopped), ….
        resident: bytes of memory.
        command: with its arguments.
    """

    pid: int
    parent: int
    started: int
    state: str
    resident: int
    command: str


class Listener(NamedTuple):
    """A port that a program listens on; *pid* is 0 if it was not found."""

    protocol: str
    port: int
    pid: int


class Lock(NamedTuple):
    """A lock on a file; *kind* is FLOCK, POSIX, …, *pid* the process that holds it."""

    kind: str
    pid: int
    path: str


class FileSystem(NamedTuple):
    """A file system: bytes and inodes, all of them and those that are free."""

    path: str
    size: int
    free: int
    nodes: int
    free_nodes: int
    read_only: bool = False


@dataclass
class Survey:
    """What a machine looked like at a moment.

    Attributes:
        uptime: ns since the guest's start.
        clock: the guest's clock, in ns since 1970.
        files: changed files by path, and directories.
        entries: of changed directories and of those that were asked for: their entries by name.
        logs: the ends of changed files that are logs, by path.
        broken: of changed programs, by path: the interpreter that they need and that is not there.
        processes: but no threads of the kernel.
        listeners: the ports that programs listen on.
        locks: the locks on files.
        systems: the file systems that hold files.
        memory: bytes, and those that programs can still get.
        log: the kernel's.
        truncated: more files were changed than are listed.
    """

    uptime: int = 0
    clock: int = 0
    files: dict[str, File] = field(default_factory=dict)
    entries: dict[str, dict[str, File]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    locks: list[Lock] = field(default_factory=list)
    systems: list[FileSystem] = field(default_factory=list)
    memory: tuple[int, int] = (0, 0)
    log: list[str] = field(default_factory=list)
    truncated: bool = False

    def started_at(self, process: Process) -> float:
        """When a process started, in seconds since 1970 by the guest's clock."""
        age = self.uptime - process.started * (1_000_000_000 // _TICKS)
        return (self.clock - age) / 1e9


def take_survey(
    guest: Guest, agent: str, *, since: int, directories: Iterable[str] = (), limit: float
) -> Survey:
    """Survey a machine.

    Args:
        guest: its inside.
        agent: the process id of the agent there.
        since: files that were changed later are listed; ns since 1970.
        directories: their entries are listed, too.
        limit: seconds that it may take.

    Raises:
        CoreInfraError: it could not be done in time, or at all.
    """
    asked = "".join(f"{path}\0" for path in directories).encode("utf-8", "surrogateescape")
    argv = [f"/proc/{agent}/exe", "--survey", str(since)]
    result = guest.exec(argv, input=asked, cwd="/", user="0", timeout=limit)
    if result.exit_code != 0:
        raise CommandFailedError("cannot survey the machine", why=result.stderr or "it failed")
    return parse_survey(result.stdout_bytes)


_FAILED_UNITS = """
[ -d /run/systemd/system ] || exit 0
systemctl list-units --state=failed,auto-restart --plain --no-legend --full --no-pager |
head -n 15 | cut -d ' ' -f 1
"""


def failed_units(guest: Guest, *, limit: float) -> list[str]:
    """The units of systemd that have failed.

    Args:
        guest: the machine's inside.
        limit: seconds that it may take.

    Raises:
        CoreInfraError: it could not be done in time.
    """
    return guest.exec(_FAILED_UNITS, cwd="/", user="0", timeout=limit).stdout.split()


def parse_survey(output: bytes) -> Survey:
    """The survey that the agent has printed; what is not a record is left out."""
    survey = Survey()
    reader = _Reader(survey)
    for record in output.decode("utf-8", "surrogateescape").split("\0"):
        letter, _, rest = record.partition("\t")
        take = reader.takers.get(letter)
        if take is None:
            continue
        try:
            take(rest)
        except ValueError:  # a guest may print anything
            continue
    return survey


class _Reader:
    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._directory: dict[str, File] = {}
        self._path = ""
        self.takers: dict[str, Callable[[str], None]] = {
            "U": self._clocks,
            "D": self._changed_directory,
            "d": self._asked_directory,
            "E": self._entry,
            "F": self._file,
            "G": self._log,
            "I": self._missing_interpreter,
            "T": self._truncated,
            "P": self._process,
            "L": self._listener,
            "W": self._lock,
            "S": self._system,
            "M": self._memory,
            "K": survey.log.append,
        }

    def _clocks(self, rest: str) -> None:
        uptime, clock = rest.split("\t")
        self._survey.uptime, self._survey.clock = int(uptime), int(clock)

    def _changed_directory(self, rest: str) -> None:
        path, file = _file(rest)
        self._survey.files[path] = file
        self._directory = self._survey.entries.setdefault(path, {})

    def _asked_directory(self, rest: str) -> None:
        path, _ = _file(rest)
        self._directory = self._survey.entries.setdefault(path, {})

    def _entry(self, rest: str) -> None:
        name, file = _file(rest)
        self._directory[name] = file

    def _file(self, rest: str) -> None:
        self._path, file = _file(rest)
        self._survey.files[self._path] = file

    def _log(self, rest: str) -> None:
        self._survey.logs[self._path] = rest

    def _missing_interpreter(self, rest: str) -> None:
        self._survey.broken[self._path] = rest

    def _truncated(self, _rest: str) -> None:
        self._survey.truncated = True

    def _process(self, rest: str) -> None:
        pid, parent, started, state, resident, command = rest.split("\t", 5)
        self._survey.processes.append(
            Process(int(pid), int(parent), int(started), state, int(resident), command)
        )

    def _listener(self, rest: str) -> None:
        protocol, port, pid = rest.split("\t")
        self._survey.listeners.append(Listener(protocol, int(port), int(pid)))

    def _lock(self, rest: str) -> None:
        kind, pid, path = rest.split("\t", 2)
        self._survey.locks.append(Lock(kind, int(pid), path))

    def _system(self, rest: str) -> None:
        size, free, nodes, free_nodes, flag, path = rest.split("\t", 5)
        self._survey.systems.append(
            FileSystem(path, int(size), int(free), int(nodes), int(free_nodes), flag == "ro")
        )

    def _memory(self, rest: str) -> None:
        total, available = rest.split("\t")
        self._survey.memory = (int(total), int(available))


def _file(rest: str) -> tuple[str, File]:
    kind, mode, uid, size, changed, name = rest.split("\t", 5)
    return name, File(kind, int(mode, 8), int(uid), int(size), int(changed))


def parents(survey: Survey) -> set[str]:
    """The directories whose former entries show what was created, changed and deleted."""
    changed = {path for path, file in survey.files.items() if file.kind == "d"}
    return changed | {posixpath.dirname(path) for path in survey.files}
