"""Faults of a disk: errors, latency, a full disk, corrupted bytes.

QEMU gets block devices over the disk's own, which its controller uses instead, only while there is
a fault: ``blkdebug``, which fails requests; and for latency ``quorum``, which also asks a device
that knows nothing and takes its time.
"""

from __future__ import annotations

import contextlib
import errno
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core_infra.errors import InvalidError, NotFoundError, UnavailableError
from core_infra.vm._faults.nbd import disk_content
from core_infra.vm._hypervisors.qemu_arguments import DISK_NODE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from core_infra.vm._faults.registry import MachineFault, MachineFaults
    from core_infra.vm._hypervisors.qmp import Qmp
    from core_infra.vm._vmm_process import VmmProcess

_SECTOR = 512
_MOST_SECTORS = 4096
_LONGEST = 3600.0
_NAME = re.compile(r"(?:/dev/)?vd([a-z])")
_IO = {
    "read": ("read",),
    "write": ("write", "write-zeroes"),
    "flush": ("flush",),
}


@dataclass(eq=False)
class DiskEffect:
    """What a fault does to one disk.

    Attributes:
        disk: the disk's number.
        faults: all faults of the machine.
        errors: the requests that fail, as rules of blkdebug.
        latency: seconds that each request takes more.
    """

    disk: int
    faults: MachineFaults
    errors: list[dict[str, Any]] = field(default_factory=list)
    latency: float = 0.0
    survives = True

    def begin(self, process: VmmProcess) -> None:
        """Set the disk up for all its active faults."""
        self._set_up(process)

    def end(self, process: VmmProcess) -> None:
        """The same, without this one."""
        self._set_up(process)

    def _set_up(self, process: VmmProcess) -> None:
        every = [each for each in self.faults.active(DiskEffect) if isinstance(each, DiskEffect)]
        mine = [each for each in every if each.disk == self.disk]
        errors = [rule for each in mine for rule in each.errors]
        set_up(process.qmp, self.disk, errors, sum(each.latency for each in mine))


@dataclass(eq=False)
class Corruption:
    """Bytes of a disk that were inverted.

    Attributes:
        disk: the disk's number.
        offset: of the first one.
        length: how many.
    """

    disk: int
    offset: int
    length: int
    survives = True
    _done: bytes = b""

    def begin(self, process: VmmProcess) -> None:
        """Invert the bytes, once: they are on the disk, and stay there without power."""
        if self._done:
            return
        with self._content(process) as content:
            old = content.read(self.offset, self.length)
            self._done = bytes(byte ^ 0xFF for byte in old)
            content.write(self.offset, self._done)

    def end(self, process: VmmProcess) -> None:
        """Invert them again, except those that the guest has written since."""
        with self._content(process) as content:
            now = content.read(self.offset, self.length)
            pairs = zip(now, self._done, strict=True)
            content.write(self.offset, bytes(a ^ 0xFF if a == b else a for a, b in pairs))

    @contextlib.contextmanager
    def _content(self, process: VmmProcess) -> Iterator[Any]:
        slow = _slow(self.disk)
        node = slow if slow in _nodes(process.qmp) else f"{DISK_NODE}{self.disk}"
        with disk_content(process.qmp, node) as content:
            yield content


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
        for name, number in given.items():
            if number not in errno.errorcode:
                raise InvalidError(
                    f"cannot fail with {name}={number!r}",
                    why="it is an error number, such as errno.EIO",
                )
        self._require_errors(write=bool(given.keys() - {"read"}))
        sectors = self._sectors(at)
        rules = [_rule(io, sector) for name in given for io in _IO[name] for sector in sectors]
        words = ", ".join(f"{name}={errno.errorcode[number]}" for name, number in given.items())
        place = "" if at is None else f" at {at}"
        return self._begin(f"fails: {words}{place}", errors=rules)

    def full(self) -> MachineFault:
        """Fail all writes, as a disk of a thin pool does that has no room; reads succeed."""
        self._require_errors(write=True)
        return self._begin("is full", errors=[_rule(io, None) for io in _IO["write"]])

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
        if length < 1:
            raise InvalidError(f"cannot corrupt {length!r} bytes", why="it is at least one")
        self._offset(self._offset(offset) + length - 1)
        effect = Corruption(self._number, offset, length)
        description = f"disk {self.name} is corrupt: {length} bytes at {offset}"
        return self._faults.begin(description, effect)

    def _begin(self, what: str, **effect: Any) -> MachineFault:
        return self._faults.begin(
            f"disk {self.name} {what}", DiskEffect(self._number, self._faults, **effect)
        )

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
                f"cannot fail at {at!r}", why=f"it is at most {_MOST_SECTORS * _SECTOR} bytes"
            )
        return sectors

    def _offset(self, value: object) -> int:
        node = _nodes(self._faults.process.qmp)[f"{DISK_NODE}{self._number}"]
        size = node["image"]["virtual-size"]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < size:
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


def set_up(qmp: Qmp, number: int, errors: list[dict[str, Any]], latency: float) -> None:
    """Put what makes these faults between a disk and its controller; nothing if there are none."""
    present = _nodes(qmp)
    base = f"{DISK_NODE}{number}"
    if latency or _slow(number) in present:
        size = present[base]["image"]["virtual-size"]
        with _detached(qmp, number, size):
            _remove(qmp, number, present)
            _add(qmp, number, errors, latency_ns=round(latency * 1e9), size=size)
    elif errors or _failing(number) in present:
        _use(qmp, number, base)
        _remove(qmp, number, present)
        _add(qmp, number, errors)


def _remove(qmp: Qmp, number: int, present: Mapping[str, object]) -> None:
    for node in (_failing(number), _slow(number), f"{_slow(number)}-clock"):
        if node in present:
            qmp.execute("blockdev-del", node_name=node)


def _add(
    qmp: Qmp, number: int, errors: list[dict[str, Any]], *, latency_ns: int = 0, size: int = 0
) -> None:
    top, slow, failing = f"{DISK_NODE}{number}", _slow(number), _failing(number)
    if latency_ns:
        clock = f"{slow}-clock"
        qmp.execute(
            "blockdev-add", driver="null-co", node_name=clock, size=size, latency_ns=latency_ns
        )
        # Of two answers that differ, one vote is enough, and the last child's counts.
        children = [clock, top]
        qmp.execute(
            "blockdev-add", driver="quorum", node_name=slow, children=children, vote_threshold=1
        )
        top = slow
    if errors:
        qmp.execute(
            "blockdev-add", driver="blkdebug", node_name=failing, image=top, inject_error=errors
        )
        top = failing
    _use(qmp, number, top)


@contextlib.contextmanager
def _detached(qmp: Qmp, number: int, size: int) -> Iterator[None]:
    """Within it, the controller does not use the disk: quorum lets no other write to it.

    The guest must not notice, so it is stopped meanwhile.
    """
    nothing, runs = f"nothing{number}", qmp.execute("query-status")["running"]
    if runs:
        qmp.execute("stop")
    try:
        qmp.execute("blockdev-add", driver="null-co", node_name=nothing, size=size)
        _use(qmp, number, nothing)
        try:
            yield
        except BaseException:
            _use(qmp, number, f"{DISK_NODE}{number}")
            raise
        finally:
            qmp.execute("blockdev-del", node_name=nothing)
    finally:
        if runs:
            qmp.execute("cont")


def _use(qmp: Qmp, number: int, node: str) -> None:
    path = f"/machine/peripheral/drive{number}"
    # QEMU aborts if it is to use what it uses already.
    if qmp.execute("qom-get", path=path, property="drive") != node:
        qmp.execute("qom-set", path=path, property="drive", value=node)


def _slow(number: int) -> str:
    return f"slow{number}"


def _failing(number: int) -> str:
    return f"failing{number}"


def _nodes(qmp: Qmp) -> dict[str, Any]:
    return {node["node-name"]: node for node in qmp.execute("query-named-block-nodes")}


def _rule(io: str, sector: int | None) -> dict[str, Any]:
    rule = {"event": "none", "iotype": io, "errno": errno.EIO}
    return rule if sector is None else rule | {"sector": sector}
