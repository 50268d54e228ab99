"""The lines of a report about what has changed in a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra._wording import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core_infra.vm._guest.changes import ChangedFile, Changes
    from core_infra.vm._guest.survey import File, FileSystem, Lock, Process

MOST_FILES = 30
_MOST_LOGS = 3
_LOG_LINES = 10
_MOST = 15
_LITTLE_MEMORY = 0.05
_LONGEST = 100
_KINDS = {"d": "directory", "l": "link", "s": "special file"}
_STATES = {"Z": "has ended, and its parent {parent} has not noticed", "D": "waits for a device"}
_STATES |= {"T": "stopped", "t": "stopped by a debugger"}


def change_lines(
    changes: Changes, *, clock: float, console: str, everything: bool = False
) -> list[str]:
    """The lines about what has changed in a machine; none if nothing has.

    Args:
        changes: what has changed.
        clock: when the test began, in seconds since 1970.
        console: what the console has printed, which is not repeated.
        everything: leave nothing out.
    """
    lines: list[str] = []

    def add(heading: str, found: Sequence[str], most: int = _MOST) -> None:
        if not found:
            return
        shown = found if everything else found[:most]
        lines.append(f"{heading}:")
        lines.extend(f"  {line}" for line in shown)
        if len(shown) < len(found):
            lines.append(f"  … and {len(found) - len(shown)} more (-vv shows all)")

    if changes.clock_off:
        lines.append(_clock_line(changes.clock_off))
    at = _relative(clock)
    add("files", [_file_line(one, at) for one in _by_importance(changes.files)], MOST_FILES)
    add(
        "programs that cannot start",
        [
            f"{_plain(path)} needs {_plain(needed)}, which is not there"
            for path, needed in changes.broken
        ],
    )
    add(
        "processes",
        [
            *(f"started  {_process(one.process)}{at(one.at)}" for one in changes.started),
            *(f"ended    {_process(one)}" for one in changes.ended),
        ],
    )
    if not (changes.started or changes.ended or changes.notes):
        lines.append("processes: none that was started still runs")
    add(
        "ports",
        [
            *(f"opened   {one.protocol} {one.port}{_by(who)}" for one, who in changes.opened),
            *(f"closed   {one.protocol} {one.port}{_by(who)}" for one, who in changes.closed),
            *(
                f"lost     tcp {port}: it was open when the test waited for it"
                for port in changes.lost
            ),
        ],
    )
    add("file systems", [f"{how:9}  {_mount(one)}" for how, one in changes.mounts])
    add("locks", [_lock_line(one, who) for one, who in changes.locks])
    add("no room", [_system_line(one) for one in changes.full])
    total, available = changes.memory
    if total and available < total * _LITTLE_MEMORY:
        lines.append(f"memory: {_size(available)} of {_size(total)} are left")
    add("the kernel's log", list(_new_in_log(changes.log, console))[-_MOST:])
    most = None if everything else _LOG_LINES
    add("failed units", [_plain(unit) for unit in changes.units])
    logs = changes.logs if everything else changes.logs[-_MOST_LOGS:]
    for path, text in logs:
        lines += [f"the end of {_plain(path)}:", *_end(text, most)]
    if len(logs) < len(changes.logs):
        lines.append(f"… and {count(len(changes.logs) - len(logs), 'more log')} (-vv shows all)")
    lines += [f"({note})" for note in changes.notes]
    return lines


def _relative(clock: float) -> Callable[[float], str]:
    return lambda moment: f"  (+{max(0.0, moment - clock):.2f} s)"


def _by_importance(files: Sequence[ChangedFile]) -> list[ChangedFile]:
    order = ("deleted", "changed", "created", "written")
    return sorted(files, key=lambda one: (order.index(one.how), one.path))


def _file_line(one: ChangedFile, at: Callable[[float], str]) -> str:
    path = _plain(one.path)
    if one.after is None:
        kind = _KINDS.get(one.before.kind, "") if one.before else ""
        return f"deleted  {path}" + (f" ({kind})" if kind else "")
    after, facts = one.after, []
    if one.before is not None:
        facts = _differences(one.before, after)
    else:
        facts = [_mode(after), _owner(after), _KINDS.get(after.kind) or _size(after.size)]
        if one.inside:
            facts.append(f"{one.inside} files in it")
    return f"{one.how:8} {path}  {', '.join(facts)}{at(after.changed / 1e9)}"


def _differences(before: File, after: File) -> list[str]:
    facts = []
    if before.kind != after.kind:
        facts.append(f"{_KINDS.get(before.kind, 'file')} → {_KINDS.get(after.kind, 'file')}")
    if before.mode != after.mode:
        facts.append(f"mode {_mode(before)} → {_mode(after)}")
    if before.uid != after.uid:
        facts.append(f"owner {_owner(before)} → {_owner(after)}")
    if before.size != after.size and after.kind != "d":
        facts.append(f"{_size(before.size)} → {_size(after.size)}")
    return facts or ["rewritten"]


def _mode(file: File) -> str:
    return f"{file.mode:04o}"


def _owner(file: File) -> str:
    return "root" if file.uid == 0 else f"uid {file.uid}"


def _process(one: Process) -> str:
    state = _STATES.get(one.state)
    note = f" ({state.format(parent=one.parent)})" if state else ""
    return f"{one.pid} {_short(_plain(one.command))}{note}"


def _by(command: str) -> str:
    return f" by {_short(_plain(command))}" if command else ""


def _system_line(one: FileSystem) -> str:
    if one.size and one.free < one.size * 0.03:
        return f"{one.path}: {_size(one.free)} of {_size(one.size)} are free"
    return f"{one.path}: {one.free_nodes} of {one.nodes} inodes are free"


def _clock_line(off: float) -> str:
    days, rest = divmod(abs(off), 86400)
    amount = f"{days:.0f} days" if days else f"{rest:.0f} s"
    return f"clock: {amount} {'ahead of' if off > 0 else 'behind'} the host's"


def _mount(one: FileSystem) -> str:
    return f"{_plain(one.path)}{' read-only' if one.read_only else ''}"


def _lock_line(one: Lock, command: str) -> str:
    holder = f"{one.pid} {_short(_plain(command))}".rstrip()
    return f"{_plain(one.path)} is locked by {holder}"


def _end(text: str, most: int | None) -> list[str]:
    lines = [f"  | {_short(_plain(line), 200)}" for line in text.splitlines()]
    return lines if most is None else lines[-most:]


def _new_in_log(log: Sequence[str], console: str) -> Iterator[str]:
    for line in log:
        _, closing, text = line.partition("] ")
        if closing and text.strip() and text.strip() not in console:
            yield _plain(line.partition(">")[2] if line.startswith("<") else line)


def _size(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - the units' base
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _short(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]} …"


def _plain(text: str) -> str:
    """A text of the guest without what a terminal would obey."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
