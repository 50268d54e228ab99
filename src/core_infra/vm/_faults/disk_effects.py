"""What faults do to a disk: requests that fail or wait, and corrupted bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._faults.disk_nodes import DiskNodes
from core_infra.vm._faults.nbd import disk_content
from core_infra.vm._faults.registry import Combined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from core_infra.vm._faults.disk_nodes import Rule
    from core_infra.vm._faults.nbd import DiskContent
    from core_infra.vm._faults.registry import MachineFaults
    from core_infra.vm._vmm_process import VmmProcess


class BadRequests(Combined):
    """Requests that fail, and such that take longer.

    Args:
        faults: all faults of the machine.
        disk: the disk's number.
        errors: the requests that fail.
        latency: seconds that each request takes more.
    """

    def __init__(
        self,
        faults: MachineFaults,
        disk: int,
        *,
        errors: Sequence[Rule] = (),
        latency: float = 0.0,
    ) -> None:
        super().__init__(faults)
        self.disk = disk
        self.errors = errors
        self.latency = latency

    def apply(self, process: VmmProcess, active: Sequence[BadRequests]) -> None:
        """Set up the disk of this effect."""
        mine = [each for each in active if each.disk == self.disk]
        errors = [rule for each in mine for rule in each.errors]
        latency = sum(each.latency for each in mine)
        DiskNodes(process.qmp, self.disk).set(errors, latency)


class Corruption:
    """Bytes of a disk that are inverted; where several overlap, each inverts them once.

    Args:
        faults: all faults of the machine.
        disk: the disk's number.
        offset: of the first one.
        length: how many.
    """

    survives = True
    needs_guest = False
    stops = False

    def __init__(self, faults: MachineFaults, disk: int, offset: int, length: int) -> None:
        self._faults = faults
        self.disk = disk
        self.offset = offset
        self.length = length
        self.expected = bytearray()  # what is there, unless the guest has written since

    def begin(self, process: VmmProcess) -> None:
        """Invert the bytes, once: they are on the disk, and stay there without power."""
        if not self.expected:
            with self._content(process) as content:
                self.expected = bytearray(content.read(self.offset, self.length))
                self._invert(content, range(self.length))

    def end(self, process: VmmProcess) -> None:
        """Invert them again, except those that the guest has written since."""
        with self._content(process) as content:
            now = content.read(self.offset, self.length)
            same = [n for n, byte in enumerate(now) if byte == self.expected[n]]
            self.expected[:] = now
            self._invert(content, same)

    def _content(self, process: VmmProcess) -> AbstractContextManager[DiskContent]:
        return disk_content(process.qmp, DiskNodes(process.qmp, self.disk).content)

    def _invert(self, content: DiskContent, which: Iterable[int]) -> None:
        """Invert bytes of this one, by their numbers, which the others then expect, too."""
        others = [each for each in self._faults.active(Corruption) if each.disk == self.disk]
        for number in which:
            self.expected[number] ^= 0xFF
            for other in others:
                place = self.offset + number - other.offset
                if other is not self and 0 <= place < len(other.expected):
                    other.expected[place] ^= 0xFF
        content.write(self.offset, bytes(self.expected))
