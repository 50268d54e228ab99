"""The directory of one run's machines, and the clean-up after a run that was killed.

Each process that boots machines has one run directory, with a lock file that it holds as long as
it lives. The kernel releases the lock however the process ends, so no process id is needed to find
out whether the owner lives. The next run's start removes directories whose lock is free, and ends
the processes recorded there if they still are the recorded ones (the same pid *and* start time).
"""

from __future__ import annotations

import contextlib
import json
import stat
from dataclasses import dataclass
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from core_infra._eventloop.sockets import short_path
from core_infra._unpatched import Path, os, shutil, signal, socket, tempfile
from core_infra.errors import CoreInfraError, InvalidError, UnavailableError
from core_infra.vm._free_space import MAKE_ROOM, no_room, written

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = "machine.json"
HELPERS = "warm-*.sock"
"""The names of the sockets of warm helpers (``_warm``)."""
INTERNAL = "."
"""What the names of directories begin with that belong to no machine of a user."""

_LONGEST = 100
_LOCK = "owner.lock"
_RUN = "run-"
_KEPT = "kept-"


@dataclass(frozen=True, slots=True)
class Swept:
    """What :func:`sweep` removed: a dead run's directory, and how many processes it ended."""

    directory: Path
    ended: int


def base_directory() -> Path:
    """The directory that holds all run directories of this user; made if it is not there.

    Raises:
        InvalidError: another user owns it, so its content cannot be trusted.
    """
    base = Path(_temporary()) / f"core-infra-{os.getuid()}"
    with written("a run's files", base.parent), contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o700)
    status = base.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise InvalidError(
            f"cannot use {base}",
            why="it is not a directory of this user's",
            todo="Remove it, or set TMPDIR to a directory of your own.",
        )
    return base


def _temporary() -> str:
    try:
        return gettempdir()
    except FileNotFoundError as error:  # it tries them all, by writing
        raise UnavailableError(
            "there is no directory for temporary files", why=str(error), todo=MAKE_ROOM
        ) from error


class RunDirectory:
    """The run directory of this process.

    Attributes:
        path: the directory; it goes with :meth:`close`.
        swept: what was left of dead runs, removed when this one was made.
    """

    def __init__(self) -> None:
        base = base_directory()
        # Held while directories are made and removed, so that no half-made one is swept.
        with written("a run's files", base), FileLock(base / ".lock"):
            self.swept = _sweep(base)
            self.path = Path(tempfile.mkdtemp(prefix=f"{_RUN}{os.getpid()}-", dir=base))
            self._lock = FileLock(self.path / _LOCK)
            self._lock.acquire()

    @contextlib.contextmanager
    def machine(self, name: str) -> Iterator[Path]:
        """A directory for a machine that is about to start; removed if it does not.

        Raises:
            InvalidError: the name is not possible, or another machine has it.
            UnavailableError: there is no room for its files.
        """
        check_machine_name(name)
        directory = self.new_directory(name)
        try:
            yield directory
        except BaseException as error:
            shutil.rmtree(directory, ignore_errors=True)
            if isinstance(error, OSError) and not isinstance(error, CoreInfraError):
                raise no_room(f"the files of machine {name}", directory, error) from error
            raise

    def new_directory(self, name: str) -> Path:
        """A new directory.

        Raises:
            InvalidError: there is one of this name.
            UnavailableError: it cannot be made.
        """
        directory = self.path / name
        try:
            directory.mkdir()
        except FileExistsError:
            raise InvalidError(
                f"cannot name a machine {name!r}", why="another one has that name"
            ) from None
        except OSError as error:
            raise no_room("a machine's files", self.path, error) from error
        return directory

    def keep(self, machine: Path, **facts: Any) -> Path:
        """Move a machine's directory out of the run, where no sweep takes it while it runs.

        Args:
            machine: the directory.
            facts: more entries for its record.
        """
        record = json.loads((machine / RECORD).read_text())
        (machine / RECORD).write_text(json.dumps(record | facts, indent=2))
        run = self.path.name.removeprefix(_RUN)  # the machines of other runs have the same names
        kept = self.path.parent / f"{_KEPT}{run}-{machine.name}"
        machine.rename(kept)
        return kept

    def close(self) -> None:
        """Remove the directory."""
        with FileLock(self.path.parent / ".lock"):
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.release(force=True)


def check_machine_name(name: object) -> None:
    """Raise InvalidError unless a machine can have this name."""
    if not _is_name(name):
        raise InvalidError(
            f"cannot name a machine {str(name)[:_LONGEST]!r}",
            why="the name becomes a directory's",
            todo="Use letters, digits and dashes.",
        )


def _is_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name) <= _LONGEST
        and "/" not in name
        and not name.startswith((INTERNAL, "-"))
        and name.isprintable()
    )


def kept_machines() -> list[Path]:
    """The directories of machines that were kept and still run, in order of their names."""
    return [path for path in sorted(base_directory().glob(f"{_KEPT}*")) if _is_running(path)]


def open_process(machine: Path) -> int | None:
    """A pidfd of a machine's process, for the caller to close; None if it does not run."""
    try:
        pid = json.loads((machine / RECORD).read_text())["pid"]
        handle = os.pidfd_open(pid)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # Once it is held, a pidfd never comes to mean another process; so look after opening it.
    if _is_running(machine):
        return handle
    os.close(handle)
    return None


def own_runs() -> list[Path]:
    """The run directories of this process."""
    return sorted(base_directory().glob(f"{_RUN}{os.getpid()}-*"))


def write_record(directory: Path, pid: int, **facts: Any) -> None:
    """Write the record of a machine's process, with more entries, to its directory."""
    record = {"pid": pid, "start_time": _process(pid)[1], **facts}
    (directory / RECORD).write_text(json.dumps(record, indent=2))


def left_behind(run: Path, machines: set[str], processes: set[int]) -> list[str]:
    """What no machine uses any more, of a run directory and of the VMM processes: a line for each.

    Args:
        run: the run directory.
        machines: the names of the directories of machines that are in use.
        processes: the ids of this process's VMM processes, without those that are kept.
    """
    # Other launchers of this process account for their own.
    others = [path for path in own_runs() if path != run]
    accounted = {_recorded(path) for other in others for path in other.iterdir()}
    left = []
    for path in sorted(path for path in run.iterdir() if path.is_dir()):
        if path.name in machines or path.name.startswith(INTERNAL):
            accounted.add(_recorded(path))
        else:
            left.append(f"the directory {path}")
    return left + [f"the hypervisor with process id {pid}" for pid in processes - accounted]


def _recorded(directory: Path) -> int | None:
    try:
        return int(json.loads((directory / RECORD).read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def _sweep(base: Path) -> list[Swept]:
    swept = []
    for path in sorted(base.glob(f"{_RUN}*")):
        lock = FileLock(path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        ended = sum(_end(record.parent) for record in path.glob(f"*/{RECORD}"))
        shutil.rmtree(path, ignore_errors=True)
        lock.release(force=True)
        swept.append(Swept(path, ended))
    for path in base.glob(HELPERS):
        if (helper := connected(path)) is not None:
            helper.close()
        else:  # it was killed
            path.unlink(missing_ok=True)
    for path in sorted(base.glob(f"{_KEPT}*")):
        if not _is_running(path):
            shutil.rmtree(path, ignore_errors=True)
            swept.append(Swept(path, 0))
    return swept


def connected(path: Path) -> socket.socket | None:
    """A connection with the warm helper whose socket this is; None if it does not run."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with short_path(path) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        return None
    return connection


def _end(machine: Path) -> bool:
    if (handle := open_process(machine)) is None:
        return False
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _is_running(machine: Path) -> bool:
    try:
        record = json.loads((machine / RECORD).read_text())
        state, start_time = _process(record["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(state != "Z" and start_time == record.get("start_time"))


def _process(pid: int) -> tuple[str, int]:
    """A process's state and its start, in clock ticks since boot: fields 3 and 22 of proc(5)."""
    text = Path(f"/proc/{pid}/stat").read_text()
    # The second field, the name, may contain blanks and brackets: count from its end.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])
