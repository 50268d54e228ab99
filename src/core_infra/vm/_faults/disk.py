"""Faults of a disk: errors, latency, a full disk, corrupted bytes."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm._faults.disk_effects import BadRequests, Corruption
from core_infra.vm._faults.disk_nodes import DiskNodes, failing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core_infra.vm._faults.disk_nodes import Rule
    from core_infra.vm._faults.registry import MachineFault, MachineFaults
    from core_infra.vm._vmm_process import VmmProcess

_SECTOR = 512
_MOST_SECTORS = 4096
_MOST = _MOST_SECTORS * _SECTOR
_LONGEST = 3600.0
_NAME = re.compile(r"(?:/dev/)?vd([a-z])")
_IO = {
    "read": ("read",),
    "write": ("write", "write-zeroes"),
    "flush": ("flush",),
}


class MachineDisk:
    """A disk of a machine, and what can go wrong with it.

    Each fault lasts until the end of its ``with`` block, or until ``heal()``. It also lasts through
    a reboot or a power cut.
    """

    def __init__(self, name: str, number: int, faults: MachineFaults) -> None:
        self.name = name
        self._number = number
        self._faults = faults

    def fail(
        self,
        *,
        read: int | None = None,
        write: int | None = None,
        flush: int | None = None,
        at: int | range | None = None,
    ) -> MachineFault:
        """Fail requests with an error; without arguments, all of them.

        The guest sees each error as EIO, because a virtio disk knows no other. What the guest has
        in its page cache is read from there, without a request.

        Args:
            read: fail reads, with this error, such as ``errno.EIO``.
            write: fail writes.
            flush: fail flushes, such as those of ``fsync``.
            at: only requests that touch this byte, or these bytes, of the disk. Flushes have none.

        Raises:
            InvalidError: an argument is not possible.
            MachineStateError: the machine does not run.
        """
        wanted = {"read": read, "write": write, "flush": flush}
        if at is not None and flush is not None:
            raise InvalidError("cannot fail flushes at a place", why="a flush is of the whole disk")
        if all(number is None for number in wanted.values()):
            wanted = {name: errno.EIO for name in wanted if at is None or name != "flush"}
        given = {name: number for name, number in wanted.items() if number is not None}
        numbers: Mapping[str, object] = given
        for name, number in numbers.items():
            if not _is_whole(number) or number not in errno.errorcode:
                raise InvalidError(
                    f"cannot fail with {name}={number!r}",
                    why="it is an error number, such as errno.EIO",
                )
        self._require_errors(write=bool(given.keys() - {"read"}))
        sectors = self._sectors(at)
        rules = [failing(io, sector) for name in given for io in _IO[name] for sector in sectors]
        words = ", ".join(f"{name}={errno.errorcode[number]}" for name, number in given.items())
        place = "" if at is None else f" at {at}"
        return self._begin(f"fails: {words}{place}", errors=rules)

    def full(self) -> MachineFault:
        """Fail all writes, as a disk of a thin pool does that has no room; reads succeed."""
        self._require_errors(write=True)
        return self._begin("is full", errors=[failing(io, None) for io in _IO["write"]])

    def slow(self, *, latency: float) -> MachineFault:
        """Make each request take *latency* seconds more; requests of a queue wait together.

        Raises:
            InvalidError: *latency* is not a time.
            MachineStateError: the machine does not run.
        """
        seconds: object = latency
        if not isinstance(seconds, int | float) or not 0 < seconds <= _LONGEST:
            raise InvalidError(
                f"cannot use latency={latency!r}", why="it is a number of seconds, above 0"
            )
        return self._begin(f"is slow: latency={latency} s", latency=float(latency))

    def corrupt(self, offset: int, length: int = 1) -> MachineFault:
        """Invert bytes of the disk; at the end, those that were not written since are restored.

        The guest sees it when it next reads them from the disk, and not from its page cache.

        Raises:
            InvalidError: the disk has no such bytes.
            MachineStateError: the machine does not run.
        """
        if not _is_whole(length) or not 0 < length <= _MOST:
            raise InvalidError(
                f"cannot corrupt {length!r} bytes", why=f"it is a number from 1 to {_MOST}"
            )
        self._offset(self._offset(offset) + length - 1)
        effect = Corruption(self._faults, self._number, offset, length)
        description = f"disk {self.name} is corrupt: {length} bytes at {offset}"
        return self._faults.begin(description, effect)

    def _begin(
        self, what: str, *, errors: Sequence[Rule] = (), latency: float = 0.0
    ) -> MachineFault:
        effect = BadRequests(self._faults, self._number, errors=errors, latency=latency)
        return self._faults.begin(f"disk {self.name} {what}", effect)

    def _require_errors(self, *, write: bool) -> None:
        disk = self._faults.process.disks[self._number]
        if write and not disk.volatile and not disk.read_only:
            raise UnavailableError(
                f"cannot fail writes to disk {self.name}",
                why="this host cannot preload core-infra's library into QEMU",
            )

    def _sectors(self, at: int | range | None) -> Sequence[int | None]:
        if at is None:
            return [None]
        first, last = (at[0], at[-1]) if isinstance(at, range) and at else (at, at)
        sectors = range(self._offset(first) // _SECTOR, self._offset(last) // _SECTOR + 1)
        if not 0 < len(sectors) <= _MOST_SECTORS:
            raise InvalidError(
                f"cannot fail at {at!r}", why=f"it is at most {_MOST} bytes, in order"
            )
        return sectors

    def _offset(self, value: object) -> int:
        size = DiskNodes(self._faults.process.qmp, self._number).size
        if not isinstance(value, int) or not _is_whole(value) or not 0 <= value < size:
            raise InvalidError(
                f"disk {self.name} has no byte {value!r}", why=f"it has {size}, numbered from 0"
            )
        return value


def number_of(name: str, process: VmmProcess) -> int:
    """The number of the disk that the guest calls *name*, such as ``vdb``.

    Raises:
        NotFoundError: the machine has no such disk.
    """
    numbers = [number for number, disk in enumerate(process.disks) if not disk.disc]
    known = {f"vd{chr(ord('a') + index)}": number for index, number in enumerate(numbers)}
    given: object = name
    found = _NAME.fullmatch(given) if isinstance(given, str) else None
    if found is None or f"vd{found[1]}" not in known:
        raise NotFoundError(
            f"machine {process.spec.name} has no disk {name!r}",
            why=f"it has {', '.join(known) or 'none'}",
            todo='Give it disks: disks=["1G"].',
        )
    return known[f"vd{found[1]}"]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
