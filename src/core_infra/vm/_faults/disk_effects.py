"""What faults do to a disk: requests that fail or wait, and corrupted bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_infra.vm._faults.disk_nodes import DiskNodes
from core_infra.vm._faults.nbd import disk_content
from core_infra.vm._faults.registry import Combined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core_infra.vm._faults.disk_nodes import Rule
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
    """Bytes of a disk that are inverted.

    Args:
        disk: the disk's number.
        offset: of the first one.
        length: how many.
    """

    survives = True

    def __init__(self, disk: int, offset: int, length: int) -> None:
        self._disk = disk
        self._offset = offset
        self._length = length
        self._inverted = b""

    def begin(self, process: VmmProcess) -> None:
        """Invert the bytes, once: they are on the disk, and stay there without power."""
        if not self._inverted:
            with disk_content(process.qmp, DiskNodes(process.qmp, self._disk).content) as content:
                old = content.read(self._offset, self._length)
                self._inverted = bytes(byte ^ 0xFF for byte in old)
                content.write(self._offset, self._inverted)

    def end(self, process: VmmProcess) -> None:
        """Invert them again, except those that the guest has written since."""
        with disk_content(process.qmp, DiskNodes(process.qmp, self._disk).content) as content:
            now = content.read(self._offset, self._length)
            pairs = zip(now, self._inverted, strict=True)
            content.write(self._offset, bytes(a ^ 0xFF if a == b else a for a, b in pairs))
