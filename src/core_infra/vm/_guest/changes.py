"""What has changed in a machine since it was handed out: one survey compared with another."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._guest.survey import File, FileSystem, Listener, Lock, Process, Survey

_FULL = 0.97
_FEW = 5
"""Of a created directory, so many files are listed; of a larger one, they are counted."""


class ChangedFile(NamedTuple):
    """A file that was changed.

    Attributes:
        how: "created", "changed" or "deleted"; "written" if it is not known whether it existed.
        path: its path.
        before: what it was; None if it did not exist, or if that is not known.
        after: what it is; None if it was deleted.
        inside: of a directory that was created: how many files it has that are not listed.
    """

    how: Literal["created", "changed", "deleted", "written"]
    path: str
    before: File | None
    after: File | None
    inside: int = 0


class StartedProcess(NamedTuple):
    """A process that was started; *at* is in seconds since 1970."""

    process: Process
    at: float


@dataclass
class Changes:
    """What has changed in a machine.

    Attributes:
        files: changed files, by path.
        started: processes that were started, and still run.
        ended: processes that no longer run.
        opened: ports that a program listens on, and none did, with its command.
        closed: ports that no program listens on any more, with the former one's command.
        lost: TCP ports that the test had waited for, and that no program listens on any more.
        mounts: file systems that were mounted, unmounted or made read-only, and how.
        full: file systems without room.
        locks: locks that processes hold on files, with the process's command.
        logs: files that were written to and are logs, with their ends, the newest last.
        broken: programs that were written, and the interpreter of each that is not there.
        units: units of systemd that failed.
        clock_off: seconds that the guest's clock is ahead of the host's.
        memory: bytes, and those that programs can still get.
        log: lines of the kernel's log.
        notes: what could not be found out, and why.
        silent: why the guest could not be asked; "" if it was.
    """

    files: list[ChangedFile] = field(default_factory=list)
    started: list[StartedProcess] = field(default_factory=list)
    ended: list[Process] = field(default_factory=list)
    opened: list[tuple[Listener, str]] = field(default_factory=list)
    closed: list[tuple[Listener, str]] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    mounts: list[tuple[str, FileSystem]] = field(default_factory=list)
    full: list[FileSystem] = field(default_factory=list)
    locks: list[tuple[Lock, str]] = field(default_factory=list)
    logs: list[tuple[str, str]] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    clock_off: float = 0.0
    memory: tuple[int, int] = (0, 0)
    log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    silent: str = ""


def compare(then: Survey | None, now: Survey, *, resumed: Sequence[tuple[int, int]]) -> Changes:
    """What has changed between two surveys.

    Args:
        then: of a machine in the state in which this one was handed out; None if there is none.
        now: of the machine.
        resumed: when the machine was started and handed out, and at each revert, in ns since 1970.
    """
    changes = Changes(full=[one for one in now.systems if _is_full(one)], memory=now.memory)
    changes.logs = sorted(
        (one for one in now.logs.items() if not _by_start(one[0], then, now, resumed)),
        key=lambda one: now.files[one[0]].changed,
    )
    changes.broken = sorted(now.broken.items())
    changes.locks = _locks(now, then)
    if now.truncated:
        changes.notes.append("more files were changed than are listed")
    if then is None:
        changes.files = [
            ChangedFile("written", path, None, file)
            for path, file in sorted(now.files.items())
            if file.kind != "d"
        ]
        changes.started = [
            StartedProcess(one, at)
            for one in now.processes
            if (at := now.started_at(one)) >= resumed[0][0] / 1e9
        ]
        return changes
    changes.files = sorted(_files(then, now, resumed), key=lambda one: one.path)
    former = {(one.pid, one.started) for one in then.processes}
    current = {(one.pid, one.started) for one in now.processes}
    changes.started = [
        StartedProcess(one, now.started_at(one))
        for one in now.processes
        if (one.pid, one.started) not in former
    ]
    changes.ended = [one for one in then.processes if (one.pid, one.started) not in current]
    changes.mounts = _mounts(then.systems, now.systems)
    changes.opened = _ports(now, then)
    changes.closed = _ports(then, now)
    known = set(then.log)
    changes.log = [line for line in now.log if line not in known]
    return changes


def _files(then: Survey, now: Survey, resumed: Sequence[tuple[int, int]]) -> list[ChangedFile]:
    found = []
    created = {
        posixpath.join(path, name)
        for path, entries in now.entries.items()
        for name in entries
        if path in now.files and name not in then.entries.get(path, {})
    }
    for path, entries in then.entries.items():
        if path not in now.files:  # asked for to see what its entries were
            continue
        here = now.entries.get(path, {})
        found += [
            ChangedFile("deleted", posixpath.join(path, name), file, None)
            for name, file in entries.items()
            if name not in here
        ]
    inside = Counter(_topmost(path, created) for path in now.files)
    for path, file in now.files.items():
        parent, name = posixpath.split(path)
        if top := _topmost(path, created):
            if inside[top] <= _FEW:
                found.append(ChangedFile("created", path, None, file))
            continue  # else counted with the directory
        if path in created:
            unlisted = inside[path] if inside[path] > _FEW else 0
            found.append(ChangedFile("created", path, None, file, unlisted))
            continue
        before = then.entries.get(parent, {}).get(name)
        if before == file:
            continue  # changed before the clone started, shortly
        if file.kind == "d" and (before is None or _same_owner(before, file)):
            continue  # its entries show what has changed
        if _by_start(path, then, now, resumed):
            continue
        found.append(ChangedFile("changed", path, before, file))
    return found


def _by_start(
    path: str, then: Survey | None, now: Survey, resumed: Sequence[tuple[int, int]]
) -> bool:
    """Whether the start of the clone has changed a file, such as that of its host name."""
    if then is None or path not in then.files:
        return False
    file = now.files[path]
    return file == then.files[path] or any(begin <= file.changed < end for begin, end in resumed)


def _topmost(path: str, directories: set[str]) -> str:
    """The topmost of some directories that a path is in; "" if it is in none."""
    found = ""
    while len(path) > 1:
        path = posixpath.dirname(path)
        if path in directories:
            found = path
    return found


def _same_owner(one: File, other: File) -> bool:
    return (one.mode, one.uid) == (other.mode, other.uid)


def _ports(these: Survey, those: Survey) -> list[tuple[Listener, str]]:
    known = {(one.protocol, one.port) for one in those.listeners}
    commands = {one.pid: one.command for one in these.processes}
    found = {
        (one.protocol, one.port): (one, commands.get(one.pid, ""))
        for one in these.listeners
        if (one.protocol, one.port) not in known
    }
    return [found[key] for key in sorted(found)]


def _locks(now: Survey, then: Survey | None) -> list[tuple[Lock, str]]:
    known = set() if then is None else set(then.locks)
    commands = {one.pid: one.command for one in now.processes}
    return [(one, commands.get(one.pid, "")) for one in now.locks if one not in known]


def _mounts(then: Sequence[FileSystem], now: Sequence[FileSystem]) -> list[tuple[str, FileSystem]]:
    before, after = {one.path: one for one in then}, {one.path: one for one in now}
    found = [("mounted", one) for one in now if one.path not in before]
    found += [("unmounted", one) for one in then if one.path not in after]
    found += [
        ("remounted", one)
        for one in now
        if one.path in before and one.read_only != before[one.path].read_only
    ]
    return found


def _is_full(system: FileSystem) -> bool:
    is_full = system.size and 1 - system.free / system.size >= _FULL
    no_nodes = system.nodes and 1 - system.free_nodes / system.nodes >= _FULL
    return bool(is_full or no_nodes)
