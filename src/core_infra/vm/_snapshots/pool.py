"""Clones that are made and verified in advance, while a test runs."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING

import psutil

from core_infra._host import processors
from core_infra.errors import CoreInfraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from core_infra.vm._snapshots.clone_source import CloneSource
    from core_infra.vm._vmm_process import VmmProcess

_SHARE_OF_MEMORY = 8


def affordable(memory: int, *, processes: int = 1) -> int:
    """How many ready clones this host can keep, per process that keeps some.

    One for each processor but the one that the test needs, if there is memory to spare.

    Args:
        memory: MiB of each.
        processes: how many processes keep some, such as the workers of a test run.
    """
    spare = psutil.virtual_memory().available >> 20
    if spare < _SHARE_OF_MEMORY * memory:
        return 0
    return max(0, min(2, processors() // processes - 1))


class Pool:
    """Keeps some clones of each source ready, once the first was asked for.

    Args:
        size: how many of each.
        make: makes one; called on the pool's own thread.
    """

    def __init__(self, size: int, make: Callable[[CloneSource], VmmProcess]) -> None:
        self._size = size
        self._make = make
        self._changed = threading.Condition()
        self._making = threading.Lock()
        self._ready: defaultdict[CloneSource, deque[VmmProcess]] = defaultdict(deque)
        self._wanted: deque[CloneSource] = deque()
        self._closed = False
        self._thread: threading.Thread | None = None

    def take(self, source: CloneSource) -> VmmProcess | None:
        """A clone that is ready, or None; the next ones are made in the background."""
        if self._size < 1:
            return None
        with self._changed:
            ready = self._ready[source]
            taken = ready.popleft() if ready else None
            missing = self._size - len(ready) - self._wanted.count(source)
            self._wanted.extend([source] * missing)
            if self._thread is None:
                self._thread = threading.Thread(target=self._fill, name="core-infra-pool")
                self._thread.daemon = True
                self._thread.start()
            self._changed.notify_all()
        return taken

    def forget(self, source: CloneSource) -> None:
        """End the ready clones of a source, which is about to be closed."""
        with self._changed:
            self._wanted = deque(one for one in self._wanted if one is not source)
            ready = self._ready.pop(source, deque())
        for process in ready:
            process.end()

    def pausing(self) -> threading.Lock:
        """A lock: while it is held, nothing is made."""
        return self._making

    def close(self) -> None:
        """End all ready clones, and wait for the one that is being made."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        for source in list(self._ready):
            self.forget(source)

    def _fill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted)
                if self._closed:
                    return
                source = self._wanted[0]
            process: VmmProcess | None = None
            # The next call makes a clone itself, and raises the reason if it cannot be made.
            with self._making, contextlib.suppress(CoreInfraError, OSError):
                process = self._make(source)
            with self._changed:
                wanted = source in self._wanted
                if wanted:
                    self._wanted.remove(source)
                if wanted and process is not None and not self._closed:
                    self._ready[source].append(process)
                    process = None
            if process is not None:
                process.end()
