"""A saved machine: its memory, its devices' state, and a record with digests of both.

The technique is QEMU's migration to a file with the memory left out, as Kata Containers' VM
templating does it: the memory is a file that the builder's machine wrote and that every clone maps
privately.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from core_infra._unpatched import os, time
from core_infra.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

RECORD = "snapshot.json"
MEMORY = "ram"
STATE = "state"
CONSOLE = "console.log"
FORMAT = 1
_CHUNK = 1 << 20


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
        """Bytes that it takes on the disk."""
        return sum(path.stat().st_blocks * 512 for path in self.directory.iterdir())

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
    """Read all files of a snapshot and compare them with its record.

    Raises:
        InvalidError: a file is missing, or is not what was saved.
    """
    for name, expected in snapshot.digests.items():
        path = snapshot.directory / name
        try:
            found = digest(path)
        except OSError as error:
            raise InvalidError(
                f"The snapshot {snapshot.directory} is damaged", why=f"{name}: {error.strerror}"
            ) from error
        if found != expected:
            raise InvalidError(
                f"The snapshot {snapshot.directory} is damaged",
                why=f"{name} is not what was saved",
            )


def digest(path: Path) -> str:
    """A digest of a file, quick on one that is mostly holes, as a machine's memory is."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        fd, size = file.fileno(), path.stat().st_size
        total.update(f"{size}".encode())
        at = 0
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole is left
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            os.lseek(fd, start, os.SEEK_SET)
            _update(total, file, start, at)
    return total.hexdigest()


def _update(total: Any, file: Any, start: int, end: int) -> None:
    while start < end:
        data = file.read(min(_CHUNK, end - start))
        if not data:
            break
        # A page of zeros may be a hole in a copy of the file, so neither counts. Each other page
        # counts with its offset, so that the places of holes do not matter.
        for offset in range(0, len(data), 4096):
            page = data[offset : offset + 4096]
            if page.count(0) != len(page):
                total.update((start + offset).to_bytes(8, "little") + page)
        start += len(data)
