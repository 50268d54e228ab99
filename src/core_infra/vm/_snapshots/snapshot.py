"""A saved machine: its memory, its devices' state, and a record with digests of both.

The technique is QEMU's migration to a file with the memory left out, as Kata Containers' VM
templating does it: the memory is a file that the builder's machine wrote and that every clone maps
privately.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from core_infra._host import processors
from core_infra._unpatched import os, time
from core_infra.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

RECORD = "snapshot.json"
MEMORY = "ram"
STATE = "state"
CONSOLE = "console.log"
FORMAT = 2
_PART = 16 << 20  # digested by one thread
_BLOCK = 1 << 16
_ZEROS = memoryview(bytes(_BLOCK))


@dataclass(frozen=True)
class Snapshot:
    """A saved machine.

    Attributes:
        directory: its files.
        key: what it was made from, as one digest.
        nonce: of the agent's last session before it was saved, in hex; only its memory has it.
        boot_seconds: how long its machine had taken to boot.
        facts: what it was made from, for users: ``image``, ``memory``, ``cpus``, ….
        digests: of each of its files.
        created: when, in seconds since the epoch.
    """

    directory: Path
    key: str
    nonce: str
    boot_seconds: float
    facts: dict[str, Any]
    digests: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)

    @property
    def state(self) -> Path:
        """The devices' state, and the memory if that has no file of its own."""
        return self.directory / STATE

    @property
    def memory(self) -> Path | None:
        """The memory; None if it is part of the state."""
        path = self.directory / MEMORY
        return path if MEMORY in self.digests else None

    @property
    def size(self) -> int:
        """Bytes that it takes on the disk; fewer while another process removes it."""
        total = 0
        with contextlib.suppress(FileNotFoundError):
            for path in self.directory.iterdir():
                total += path.stat().st_blocks * 512
        return total

    def past(self) -> bytes:
        """What the console had printed before."""
        return (self.directory / CONSOLE).read_bytes()


def write_snapshot(snapshot: Snapshot) -> None:
    """Write the record of a snapshot whose files exist."""
    names = sorted({path.name for path in snapshot.directory.iterdir()} - {RECORD})
    record = asdict(snapshot) | {
        "format": FORMAT,
        "directory": None,
        "digests": {name: digest(snapshot.directory / name) for name in names},
    }
    (snapshot.directory / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def read_snapshot(directory: Path) -> Snapshot:
    """The snapshot in *directory*, by its record; its other files are not read.

    Raises:
        NotFoundError: there is none.
        InvalidError: its record is damaged, or of another version.
    """
    path = directory / RECORD
    try:
        record = json.loads(path.read_bytes())
        if record.pop("format") != FORMAT:
            raise InvalidError(f"The snapshot {directory} is of another version")
        return Snapshot(**(record | {"directory": directory}))
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no snapshot in {directory}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidError(f"The snapshot's record {path} is damaged", why=str(error)) from error


def verify(snapshot: Snapshot) -> None:
    """Compare all files of a snapshot with its record.

    This process reads a file again only if it has changed meanwhile.

    Raises:
        InvalidError: a file is missing, or is not what was saved.
    """
    for name, expected in snapshot.digests.items():
        path = snapshot.directory / name
        try:
            before, now = stamp(path), time.time_ns()
            found = _digests[before] if before in _digests else digest(path)
        except OSError as error:
            raise InvalidError(
                f"The snapshot {snapshot.directory} is damaged", why=f"{name}: {error.strerror}"
            ) from error
        if found != expected:
            raise InvalidError(
                f"The snapshot {snapshot.directory} is damaged",
                why=f"{name} is not what was saved",
            )
        if now - before.changed > _CLOCK_TICK_NS:
            _digests[before] = found


def template_key(snapshot: Snapshot) -> str:
    """What a template that was loaded from a verified snapshot depends on, as one digest.

    The snapshot's key has the image, the agent, QEMU and its options. Its files must be those that
    the template was loaded from; and a template serves one day only.
    """
    files = [stamp(snapshot.directory / name) for name in sorted(snapshot.digests)]
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return hashlib.sha256(json.dumps([snapshot.key, files, today]).encode()).hexdigest()[:24]


class Stamp(NamedTuple):
    """The identity of a file's content: it differs after each change.

    The kernel sets the time of change, and nobody can set it to an earlier one.
    """

    device: int
    number: int
    size: int
    modified: int
    changed: int


def stamp(path: Path) -> Stamp:
    """The stamp of a file as it is now."""
    status = path.stat()
    return Stamp(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


_CLOCK_TICK_NS = 1_000_000_000  # a file may change twice within a tick of its clock, unseen
_digests: dict[Stamp, str] = {}


def digest(path: Path) -> str:
    """A digest of a file, quick on one that is mostly holes, as a machine's memory is."""
    size = path.stat().st_size
    parts = [(at, min(at + _PART, size)) for at in range(0, size, _PART)]
    with ThreadPoolExecutor(max(1, min(len(parts), processors()))) as pool:
        found = list(pool.map(lambda part: _digest_of_part(path, *part), parts))
    return hashlib.sha256(b"".join([f"{size}".encode(), *found])).hexdigest()


def _digest_of_part(path: Path, start: int, end: int) -> bytes:
    """The digest of the blocks of a part that are not all zeros, each with its offset.

    A block of zeros may be a hole in a copy of the file, so neither counts.
    """
    total = hashlib.sha256()
    buffer = bytearray(_BLOCK)
    with memoryview(buffer) as view, path.open("rb", buffering=0) as file:
        while start < end:
            try:
                data = os.lseek(file.fileno(), start, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole is left
                break
            start = os.lseek(file.fileno(), data - data % _BLOCK, os.SEEK_SET)
            if start >= end or not (length := file.readinto(buffer)):
                break
            block = view[:length]
            if block != _ZEROS[:length]:
                total.update(b"%d:" % start)
                total.update(block)
            start += length
    return total.digest()
