"""QEMU's block devices between a disk and its controller, which are there only while it is faulty.

``blkdebug`` fails requests; and for latency, ``quorum`` also asks a device that knows nothing and
takes its time.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any

from core_infra.vm._hypervisors.qemu_arguments import DISK_NODE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core_infra.vm._hypervisors.qmp import Qmp

Rule = dict[str, Any]
"""Requests that fail, as ``blkdebug`` takes them."""


def failing(io: str, sector: int | None) -> Rule:
    """A rule by which requests fail; *sector*: only those that touch it."""
    rule = {"event": "none", "iotype": io, "errno": errno.EIO}
    return rule if sector is None else rule | {"sector": sector}


class DiskNodes:
    """The block devices of one disk.

    Args:
        qmp: the monitor of a machine that runs.
        number: the disk's.
    """

    def __init__(self, qmp: Qmp, number: int) -> None:
        self._qmp = qmp
        self._disk = f"{DISK_NODE}{number}"
        self._failing = f"failing{number}"
        self._slow = f"slow{number}"
        self._clock = f"slow{number}-clock"
        self._nothing = f"nothing{number}"
        self._controller = f"/machine/peripheral/drive{number}"

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return int(self._present()[self._disk]["image"]["virtual-size"])

    @property
    def content(self) -> str:
        """The node to read and write the disk's content by: quorum lets nobody else write."""
        return self._slow if self._slow in self._present() else self._disk

    def set(self, errors: Sequence[Rule], latency: float) -> None:
        """Let requests fail, or take *latency* seconds more; without both, remove all of it."""
        present = self._present()
        if latency or self._slow in present:
            with self._detached():
                self._remove(present)
                self._add(errors, latency)
        elif errors or self._failing in present:
            self._use(self._disk)
            self._remove(present)
            self._add(errors, 0)

    def _present(self) -> dict[str, Any]:
        return {node["node-name"]: node for node in self._qmp.execute("query-named-block-nodes")}

    def _remove(self, present: dict[str, Any]) -> None:
        for node in (self._failing, self._slow, self._clock):
            if node in present:
                self._qmp.execute("blockdev-del", node_name=node)

    def _add(self, errors: Sequence[Rule], latency: float) -> None:
        top = self._disk
        if latency:
            self._add_nothing(self._clock, latency_ns=round(latency * 1e9))
            # Of two answers that differ, one vote is enough, and the last child's counts.
            children = [self._clock, top]
            top = self._slow
            self._qmp.execute(
                "blockdev-add", driver="quorum", node_name=top, children=children, vote_threshold=1
            )
        if errors:
            below, top = top, self._failing
            self._qmp.execute(
                "blockdev-add", driver="blkdebug", node_name=top, image=below, inject_error=errors
            )
        self._use(top)

    def _add_nothing(self, node: str, **options: Any) -> None:
        self._qmp.execute(
            "blockdev-add", driver="null-co", node_name=node, size=self.size, **options
        )

    @contextlib.contextmanager
    def _detached(self) -> Iterator[None]:
        """Within it, the controller does not use the disk: quorum lets no other write to it.

        The guest must not notice, so it is stopped meanwhile.
        """
        runs = self._qmp.execute("query-status")["running"]
        if runs:
            self._qmp.execute("stop")
        try:
            self._add_nothing(self._nothing)
            self._use(self._nothing)
            try:
                yield
            except BaseException:
                self._use(self._disk)
                raise
            finally:
                self._qmp.execute("blockdev-del", node_name=self._nothing)
        finally:
            if runs:
                self._qmp.execute("cont")

    def _use(self, node: str) -> None:
        # QEMU aborts if it is to use what it uses already.
        if self._qmp.execute("qom-get", path=self._controller, property="drive") != node:
            self._qmp.execute("qom-set", path=self._controller, property="drive", value=node)
